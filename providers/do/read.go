package do

import (
	"context"
	"errors"
	"net/netip"
	"strconv"
	"sync"

	"github.com/digitalocean/godo"

	"github.com/cloudaudit/cloudaudit/cloud"
)

// inventory is what one team owns, as far as it could be read, in values of our own: those of godo are many times larger.
type inventory struct {
	droplets      map[int]*droplet
	firewalls     []firewall
	balancers     []loadBalancer
	vpcs          map[string]netip.Prefix // by id
	partDroplets  bool                    // droplets may lack some
	partFirewalls bool                    // firewalls may lack some
	partVPCs      bool                    // vpcs may lack some
	gaps          []cloud.Gap
}

// droplet is a droplet with its addresses.
type droplet struct {
	id      int
	name    string
	tags    []string
	vpc     string
	public  []netip.Addr // networks of type public, and reserved addresses
	private []netip.Addr
	stub    bool // known by name only, because droplets could not be read: tags is not to be relied on
}

// loadBalancer is a load balancer as far as it matters.
type loadBalancer struct {
	id, name       string
	ip, ipv6       netip.Addr // the zero Addr where there is none yet
	internal       bool
	passthrough    bool // a regional network balancer, which hands packets on as they are
	vpc            string
	dropletIDs     []int
	tags           []string
	rules          []godo.ForwardingRule
	allowed, kept  []string // entries of its own firewall: what it lets in, what it keeps out
	globalTarget   int      // of a global balancer: the port of its targets, else 0
	globalBalancer []string // of a global balancer: the balancers that are its targets
}

// inventory reads all lists of a team at once. Only the end of ctx stops it; every list that fails is a gap.
func (c *client) inventory(ctx context.Context) *inventory {
	v := &inventory{droplets: map[int]*droplet{}, vpcs: map[string]netip.Prefix{}}
	var (
		wait     sync.WaitGroup
		mu       sync.Mutex // guards failures
		failures = map[string]error{}
		reserved []reservation
		second   []reservation
	)
	read := func(path string, list func() error) {
		wait.Go(func() {
			if err := list(); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failures[path] = err
			}
		})
	}
	read("/v2/droplets", func() error {
		return pages(ctx, c.limit, func(d godo.Droplet) string { return strconv.Itoa(d.ID) }, c.api.Droplets.List, func(d godo.Droplet) {
			v.droplets[d.ID] = newDroplet(&d)
		})
	})
	read("/v2/firewalls", func() error {
		return pages(ctx, c.limit, func(f firewall) string { return f.ID }, c.firewalls, func(f firewall) {
			v.firewalls = append(v.firewalls, f)
		})
	})
	read("/v2/load_balancers", func() error {
		return pages(ctx, c.limit, func(b godo.LoadBalancer) string { return b.ID }, c.api.LoadBalancers.List, func(b godo.LoadBalancer) {
			v.balancers = append(v.balancers, newBalancer(&b))
		})
	})
	read("/v2/reserved_ips", func() error {
		return pages(ctx, c.limit, func(r godo.ReservedIP) string { return r.IP }, c.api.ReservedIPs.List, func(r godo.ReservedIP) {
			if r.Droplet != nil && r.Droplet.ID != 0 {
				reserved = append(reserved, reservation{r.IP, newDroplet(r.Droplet)})
			}
		})
	})
	read("/v2/reserved_ipv6", func() error {
		return pages(ctx, c.limit, func(r godo.ReservedIPV6) string { return r.IP }, c.api.ReservedIPV6s.List, func(r godo.ReservedIPV6) {
			if r.Droplet != nil && r.Droplet.ID != 0 {
				second = append(second, reservation{r.IP, newDroplet(r.Droplet)})
			}
		})
	})
	wait.Wait()

	if v.replacesSources() { // only then does it matter which networks there are
		err := pages(ctx, c.limit, func(n *godo.VPC) string { return n.ID }, c.api.VPCs.List, func(n *godo.VPC) {
			if p, err := netip.ParsePrefix(n.IPRange); err == nil {
				v.vpcs[n.ID] = p.Masked()
			}
		})
		if err != nil {
			failures["/v2/vpcs"] = err
		}
	}
	for _, call := range []struct{ path, scope string }{
		{"/v2/droplets", "droplet:read"},
		{"/v2/firewalls", "firewall:read"},
		{"/v2/load_balancers", "load_balancer:read"},
		{"/v2/reserved_ips", "reserved_ip:read"},
		{"/v2/reserved_ipv6", "reserved_ip:read"},
		{"/v2/vpcs", "vpc:read"},
	} {
		if err := failures[call.path]; err != nil {
			gap := c.gap(call.scope, call.path, err)
			if errors.Is(err, errIncomplete) {
				gap.Hint = "scan again; if it stays, the API at DIGITALOCEAN_API_URL does not page as documented"
			}
			v.gaps = append(v.gaps, gap)
		}
	}
	v.partDroplets = failures["/v2/droplets"] != nil
	v.partFirewalls = failures["/v2/firewalls"] != nil
	v.partVPCs = failures["/v2/vpcs"] != nil
	v.reserve(append(reserved, second...))
	return v
}

// reservation is a reserved address and the droplet that the API shows with it.
type reservation struct {
	ip string
	to *droplet
}

// reserve gives reserved addresses to their droplets, for the droplets themselves may not show them.
func (v *inventory) reserve(all []reservation) {
	for _, r := range all {
		d := v.droplets[r.to.id]
		if d == nil {
			d = r.to
			v.droplets[d.id] = d
		}
		if addr, ok := address(r.ip); ok {
			d.public = append(d.public, addr)
		} else {
			v.gaps = append(v.gaps, cloud.Gap{
				Subject: "reserved_ip:read", Cause: "reserved address " + oneLine(strconv.Quote(r.ip)) + " is not an IP address",
			})
		}
	}
}

// replacesSources says whether a balancer puts its private address in the place of internet hosts.
func (v *inventory) replacesSources() bool {
	for _, b := range v.balancers {
		if !b.internal {
			return true
		}
	}
	return false
}

func newDroplet(d *godo.Droplet) *droplet {
	out := &droplet{id: d.ID, name: d.Name, tags: d.Tags, vpc: d.VPCUUID}
	if d.Networks == nil {
		return out
	}
	add := func(ip, kind string) {
		addr, ok := address(ip)
		switch {
		case !ok: // such as the empty address of a droplet that is being made
		case kind == "public":
			out.public = append(out.public, addr)
		default:
			out.private = append(out.private, addr)
		}
	}
	for _, n := range d.Networks.V4 {
		add(n.IPAddress, n.Type)
	}
	for _, n := range d.Networks.V6 {
		add(n.IPAddress, n.Type)
	}
	return out
}

func newBalancer(b *godo.LoadBalancer) loadBalancer {
	out := loadBalancer{
		id: b.ID, name: b.Name, vpc: b.VPCUUID, rules: b.ForwardingRules, dropletIDs: b.DropletIDs, tags: b.Tags,
		internal: b.Network == godo.LoadBalancerNetworkTypeInternal, passthrough: b.Type == godo.LoadBalancerTypeRegionalNetwork,
		globalBalancer: b.TargetLoadBalancerIDs,
	}
	out.ip, _ = address(b.IP)
	out.ipv6, _ = address(b.IPv6)
	if b.Tag != "" {
		out.tags = append(out.tags, b.Tag)
	}
	if b.Firewall != nil {
		out.allowed, out.kept = b.Firewall.Allow, b.Firewall.Deny
	}
	if b.GLBSettings != nil {
		out.globalTarget = int(b.GLBSettings.TargetPort)
	}
	return out
}

// address reads an IP address; an IPv4 address written as IPv6 is IPv4.
func address(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, false
	}
	return a.Unmap(), true
}
