package do

import (
	"net/netip"
	"slices"
	"strings"
)

// object is a JSON object under construction.
type object = map[string]any

const created = "2026-03-02T09:14:00Z"

// entries renders one list of a team as token sees it.
func entries(team *Team, token Token, plural string) []any {
	s := &team.Scene
	var out []any
	switch plural {
	case "droplets":
		for i := range s.Droplets {
			out = append(out, droplet(&s.Droplets[i], token))
		}
	case "firewalls":
		for i := range s.Firewalls {
			out = append(out, firewall(&s.Firewalls[i], token))
		}
	case "load_balancers":
		for i := range s.LoadBalancers {
			out = append(out, loadBalancer(s, i))
		}
	case "reserved_ips":
		for _, ip := range s.ReservedIPs {
			o := object{"ip": ip.IP, "region": region(ip.Region), "locked": false}
			assigned(o, s, ip, token)
			out = append(out, o)
		}
	case "reserved_ipv6s":
		for _, ip := range s.ReservedIPv6 {
			o := object{"ip": ip.IP, "region_slug": slug(ip.Region), "reserved_at": created}
			assigned(o, s, ip, token)
			out = append(out, o)
		}
	case "vpcs":
		for _, v := range vpcs(s) {
			out = append(out, object{
				"id": v.ID, "urn": "do:vpc:" + v.ID, "name": v.Name, "description": "", "region": slug(v.Region),
				"ip_range": v.IPRange, "default": true, "created_at": created,
			})
		}
	}
	return out
}

func account(team *Team, token Token) object {
	o := object{
		"floating_ip_limit": 5, "reserved_ip_limit": 5, "volume_limit": 100, "name": "Sammy", "email": "sammy@example.com",
		"uuid": "b6fr89dbf6d9156cace5f3c78dc9851d957381ef", "email_verified": true, "status": "active", "status_message": "",
		"team": object{"uuid": team.UUID, "name": team.Name},
	}
	if token.may("droplet:read") {
		o["droplet_limit"] = 25
	}
	return o
}

// assigned adds to a reserved address the droplet that it leads to: null where there is none, nothing at all without the
// scope droplet:read.
func assigned(o object, s *Scene, ip ReservedIP, token Token) {
	if !token.may("droplet:read") {
		return
	}
	o["droplet"] = nil
	if ip.Droplet == nil {
		return
	}
	if i := slices.IndexFunc(s.Droplets, func(d Droplet) bool { return d.ID == ip.Droplet.ID }); i >= 0 {
		o["droplet"] = droplet(&s.Droplets[i], token)
		return
	}
	o["droplet"] = droplet(&Droplet{ID: ip.Droplet.ID, Name: "other-team"}, token)
}

func droplet(d *Droplet, token Token) object {
	v4, v6 := []object{}, []object{}
	for _, a := range d.Networks.V4 {
		o := object{"ip_address": a.IPAddress, "netmask": "255.255.240.0", "gateway": gateway(a.IPAddress), "type": a.Type}
		if a.Type == "private" {
			o["gateway"] = "nil"
		}
		v4 = append(v4, o)
	}
	for _, a := range d.Networks.V6 {
		v6 = append(v6, object{"ip_address": a.IPAddress, "netmask": 64, "gateway": gateway(a.IPAddress), "type": a.Type})
	}
	o := object{
		"id": d.ID, "name": d.Name, "memory": 1024, "vcpus": 1, "disk": 25, "locked": false, "status": or(d.Status, "active"),
		"kernel": nil, "created_at": created, "features": []string{"private_networking"},
		"next_backup_window": object{"start": "2026-11-21T00:00:00Z", "end": "2026-11-21T23:00:00Z"}, "size_slug": "s-1vcpu-1gb", "networks": object{"v4": v4, "v6": v6}, "region": region(d.Region),
		"size": object{
			"slug": "s-1vcpu-1gb", "memory": 1024, "vcpus": 1, "disk": 25, "transfer": 1.0, "price_monthly": 6.0,
			"price_hourly": 0.00893, "regions": []string{"nyc3", "fra1"}, "available": true, "description": "Basic",
		},
	}
	if token.may("image:read") {
		o["backup_ids"], o["snapshot_ids"] = []int{}, []int{}
		o["image"] = object{
			"id": 7555620, "name": "24.04 (LTS) x64", "type": "base", "distribution": "Ubuntu", "slug": "ubuntu-24-04-x64",
			"public": true, "regions": []string{"nyc3", "fra1"}, "created_at": created, "min_disk_size": 7,
			"size_gigabytes": 2.34, "description": "Ubuntu 24.04", "tags": []string{}, "status": "available",
		}
	}
	if token.may("block_storage:read") {
		o["volume_ids"] = []string{}
	}
	if token.may("tag:read") {
		o["tags"] = list(d.Tags)
	}
	if token.may("vpc:read") && d.VPCUUID != "" {
		o["vpc_uuid"] = d.VPCUUID
	}
	return o
}

// firewall shows what the firewall is attached to only to a token that may read it: without droplet:read the attribute
// droplet_ids is missing, without tag:read the attribute tags.
func firewall(f *Firewall, token Token) object {
	o := object{
		"id": f.ID, "name": f.Name, "status": or(f.Status, "succeeded"), "created_at": created,
		"inbound_rules": nil, "outbound_rules": nil, "pending_changes": list(f.PendingChanges),
	}
	if f.InboundRules != nil {
		o["inbound_rules"] = stored(f.InboundRules, func(r *InboundRule) *string { return &r.Ports })
	}
	if f.OutboundRules != nil {
		o["outbound_rules"] = stored(f.OutboundRules, func(r *OutboundRule) *string { return &r.Ports })
	}
	if token.may("droplet:read") {
		o["droplet_ids"] = list(f.DropletIDs)
	}
	if token.may("tag:read") {
		o["tags"] = list(f.Tags)
	}
	return o
}

// stored returns the rules as the API keeps them: "all" ports become "0".
func stored[R any](rules []R, ports func(*R) *string) []R {
	out := slices.Clone(rules)
	for i := range out {
		if p := ports(&out[i]); *p == "all" {
			*p = "0"
		}
	}
	return out
}

func loadBalancer(s *Scene, i int) object {
	lb := &s.LoadBalancers[i]
	ids := slices.Clone(lb.DropletIDs)
	if lb.Tag != "" {
		for _, d := range s.Droplets {
			if slices.Contains(d.Tags, lb.Tag) && !slices.Contains(ids, d.ID) {
				ids = append(ids, d.ID)
			}
		}
	}
	vpc := lb.VPCUUID
	for _, d := range s.Droplets {
		if vpc == "" && slices.Contains(ids, d.ID) {
			vpc = d.VPCUUID
		}
	}
	ip := lb.IP
	if ip == "" && lb.Status != "new" {
		ip = netip.AddrFrom4([4]byte{104, 131, 186, byte(i + 1)}).String()
		if lb.Network == "INTERNAL" {
			ip = netip.AddrFrom4([4]byte{10, 116, 15, byte(i + 1)}).String()
		}
	}
	o := object{
		"id": lb.ID, "name": lb.Name, "ip": ip, "size": "lb-small", "size_unit": 1, "algorithm": "round_robin",
		"status": or(lb.Status, "active"), "created_at": created, "forwarding_rules": list(lb.ForwardingRules),
		"health_check": object{
			"protocol": "tcp", "port": 80, "path": "", "check_interval_seconds": 10, "response_timeout_seconds": 5,
			"unhealthy_threshold": 3, "healthy_threshold": 5,
		},
		"sticky_sessions": object{"type": "none"}, "region": region(lb.Region), "tag": lb.Tag, "droplet_ids": list(ids),
		"redirect_http_to_https": false, "enable_proxy_protocol": false, "enable_backend_keepalive": false,
		"type": or(lb.Type, "REGIONAL"), "network": or(lb.Network, "EXTERNAL"), "network_stack": "IPV4",
		"disable_lets_encrypt_dns_records": false, "http_idle_timeout_seconds": 60, "tls_cipher_policy": "DEFAULT",
	}
	if vpc != "" {
		o["vpc_uuid"] = vpc
	}
	if lb.IPv6 != "" {
		o["ipv6"], o["network_stack"] = lb.IPv6, "DUALSTACK"
	}
	if lb.Firewall != nil {
		o["firewall"] = lb.Firewall
	}
	if lb.GLBSettings != nil {
		o["glb_settings"], o["target_load_balancer_ids"] = lb.GLBSettings, list(lb.TargetIDs)
	}
	return o
}

// vpcs returns the networks of a scene: the given ones, and for each other one that a droplet is in, the /20 around the
// droplet's private address, which is the size that the API chooses for a network of its own.
func vpcs(s *Scene) []VPC {
	out := slices.Clone(s.VPCs)
	for _, d := range s.Droplets {
		if d.VPCUUID == "" || slices.ContainsFunc(out, func(v VPC) bool { return v.ID == d.VPCUUID }) {
			continue
		}
		for _, a := range d.Networks.V4 {
			if ip, err := netip.ParseAddr(a.IPAddress); err == nil && a.Type == "private" {
				out = append(out, VPC{
					ID: d.VPCUUID, Name: "default-" + slug(d.Region), Region: d.Region,
					IPRange: netip.PrefixFrom(ip, 20).Masked().String(),
				})
				break
			}
		}
	}
	return out
}

func region(s string) object {
	return object{
		"name": strings.ToUpper(slug(s)), "slug": slug(s), "features": []string{"private_networking", "ipv6"},
		"available": true, "sizes": []string{"s-1vcpu-1gb"},
	}
}

// gateway is the first address of the /20 or /64 that ip is in.
func gateway(ip string) string {
	a, err := netip.ParseAddr(ip)
	if err != nil {
		return ""
	}
	bits := 20
	if a.Is6() {
		bits = 64
	}
	return netip.PrefixFrom(a, bits).Masked().Addr().Next().String()
}

func slug(region string) string { return or(region, "nyc3") }

func or(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

// list makes nil an empty list, which JSON shows as [] and not as null.
func list[E any](s []E) []E {
	if s == nil {
		return []E{}
	}
	return s
}
