package ec2

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// query wraps what write writes into an answer of the query protocol: <ActionResponse><ActionResult>…
func (c *call) query(write func(*xml.Encoder) error) ([]byte, error) {
	var b bytes.Buffer
	e := xml.NewEncoder(&b)
	response := xml.StartElement{
		Name: xml.Name{Local: c.action + "Response"},
		Attr: []xml.Attr{{Name: xml.Name{Local: "xmlns"}, Value: c.service.namespace}},
	}
	result := xml.StartElement{Name: xml.Name{Local: c.action + "Result"}}
	for _, err := range []error{e.EncodeToken(response), e.EncodeToken(result), write(e), e.EncodeToken(result.End()), e.EncodeToken(response.End()), e.Flush()} {
		if err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

// members answers with one page of an Elastic Load Balancing list.
func members[T any](c *call, name string, items []T) ([]byte, error) {
	max := 400
	if s := c.form.Get("PageSize"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > 400 {
			return nil, &apiError{"ValidationError", "PageSize must be between 1 and 400", http.StatusBadRequest}
		}
		max = n
	}
	from, to, next, err := c.window(len(items), max, c.form.Get("Marker"))
	if err != nil {
		return nil, err
	}
	return c.query(func(e *xml.Encoder) error {
		if err := set(e, name, "member", items[from:to]); err != nil || next == "" {
			return err
		}
		return e.EncodeElement(next, xml.StartElement{Name: xml.Name{Local: "NextMarker"}})
	})
}

func callerIdentity(c *call) ([]byte, error) {
	return c.query(func(e *xml.Encoder) error {
		for _, v := range [][2]string{
			{"UserId", "AIDAEMULATED"},
			{"Account", c.account.ID},
			{"Arn", c.world.arn("iam", "", c.account.ID, "user/auditor")},
		} {
			if err := e.EncodeElement(v[1], xml.StartElement{Name: xml.Name{Local: v[0]}}); err != nil {
				return err
			}
		}
		return nil
	})
}

// assumeRole hands the management account the keys of a member that has the role.
func assumeRole(c *call) ([]byte, error) {
	arn := c.form.Get("RoleArn")
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) != 6 || parts[2] != "iam" || !strings.HasPrefix(parts[5], "role/") || c.form.Get("RoleSessionName") == "" {
		return nil, &apiError{"ValidationError", arn + " is invalid", http.StatusBadRequest}
	}
	role := parts[5][strings.LastIndexByte(parts[5], '/')+1:]
	member := c.world.account(parts[4])
	if parts[1] != c.world.Partition || c.account.ID != c.world.Management || member == nil || member.Status != "ACTIVE" || !slices.Contains(member.Roles, role) {
		return nil, &apiError{
			"AccessDenied",
			fmt.Sprintf("User: %s is not authorized to perform: sts:AssumeRole on resource: %s", c.world.arn("iam", "", c.account.ID, "user/auditor"), arn),
			http.StatusForbidden,
		}
	}
	type credentials struct {
		AccessKeyID     string `xml:"AccessKeyId"`
		SecretAccessKey string
		SessionToken    string
		Expiration      string
	}
	return c.query(func(e *xml.Encoder) error {
		return e.EncodeElement(credentials{sessionKey(member.ID), "emulated-secret-of-" + member.ID, "emulated-session-of-" + member.ID, "2999-12-31T23:59:59Z"},
			xml.StartElement{Name: xml.Name{Local: "Credentials"}})
	})
}

func describeLoadBalancers(c *call) ([]byte, error) {
	return members(c, "LoadBalancers", c.here.LoadBalancers)
}

func describeListeners(c *call) ([]byte, error) {
	arn := c.form.Get("LoadBalancerArn")
	for _, b := range c.here.LoadBalancers {
		if b.LoadBalancerArn == arn {
			return members(c, "Listeners", b.Listeners)
		}
	}
	return nil, &apiError{"LoadBalancerNotFound", fmt.Sprintf("Load balancer '%s' not found", arn), http.StatusBadRequest}
}

func describeTargetGroups(c *call) ([]byte, error) {
	items := c.here.TargetGroups
	if arn := c.form.Get("LoadBalancerArn"); arn != "" {
		items = slices.DeleteFunc(slices.Clone(items), func(g TargetGroup) bool { return !slices.Contains(g.LoadBalancerArns, arn) })
	}
	return members(c, "TargetGroups", items)
}

func (c *call) targetGroup() (*TargetGroup, error) {
	arn := c.form.Get("TargetGroupArn")
	for i := range c.here.TargetGroups {
		if c.here.TargetGroups[i].TargetGroupArn == arn {
			return &c.here.TargetGroups[i], nil
		}
	}
	return nil, &apiError{"TargetGroupNotFound", fmt.Sprintf("Target group '%s' not found", arn), http.StatusBadRequest}
}

func describeTargetHealth(c *call) ([]byte, error) {
	g, err := c.targetGroup()
	if err != nil {
		return nil, err
	}
	type health struct {
		ID    string `xml:"Target>Id"`
		Port  int    `xml:"Target>Port,omitempty"`
		State string `xml:"TargetHealth>State"`
	}
	var items []health
	for _, t := range g.Targets {
		items = append(items, health(t))
	}
	return c.query(func(e *xml.Encoder) error { return set(e, "TargetHealthDescriptions", "member", items) })
}

func describeTargetGroupAttributes(c *call) ([]byte, error) {
	g, err := c.targetGroup()
	if err != nil {
		return nil, err
	}
	type attribute struct{ Key, Value string }
	var items []attribute
	for k, v := range g.Attributes {
		items = append(items, attribute{k, v})
	}
	sort.Slice(items, func(i, j int) bool { return items[i].Key < items[j].Key })
	return c.query(func(e *xml.Encoder) error { return set(e, "Attributes", "member", items) })
}

func describeClassicLoadBalancers(c *call) ([]byte, error) {
	return members(c, "LoadBalancerDescriptions", c.here.ClassicLoadBalancers)
}

// page cuts a page out of a list of one of the JSON services. size is the service's own bound.
func page[T any](c *call, items []T, asked, size int, token string) ([]T, string, error) {
	if asked < 0 || asked > size {
		return nil, "", &apiError{"InvalidInputException", fmt.Sprintf("MaxResults must be between 1 and %d", size), http.StatusBadRequest}
	}
	if asked == 0 {
		asked = size
	}
	from, to, next, err := c.window(len(items), asked, token)
	if err != nil {
		return nil, "", &apiError{"InvalidInputException", "The token is not valid", http.StatusBadRequest}
	}
	return items[from:to], next, nil
}

// answer encodes a JSON answer, leaving out an empty token.
func answer(key string, items any, tokenKey, token string) ([]byte, error) {
	out := map[string]any{key: items}
	if token != "" {
		out[tokenKey] = token
	}
	return json.Marshal(out)
}

// lightsailPage is how many instances GetInstances returns at once; callers cannot choose it.
const lightsailPage = 100

func lightsailInstances(c *call) ([]byte, error) {
	var in struct {
		PageToken string `json:"pageToken"`
	}
	if err := json.Unmarshal(c.body, &in); err != nil {
		return nil, &apiError{"InvalidInputException", err.Error(), http.StatusBadRequest}
	}
	items, next, err := page(c, c.here.LightsailInstances, 0, lightsailPage, in.PageToken)
	if err != nil {
		return nil, err
	}
	return answer("instances", items, "nextPageToken", next)
}

// listInput is what the lists of Global Accelerator and Organizations take.
type listInput struct {
	AcceleratorArn, ListenerArn, NextToken string
	MaxResults                             int
}

func (c *call) listInput() (in listInput, err error) {
	if err := json.Unmarshal(c.body, &in); err != nil {
		return in, &apiError{"InvalidArgumentException", err.Error(), http.StatusBadRequest}
	}
	return in, nil
}

func listAccelerators(c *call) ([]byte, error) {
	in, err := c.listInput()
	if err != nil {
		return nil, err
	}
	items, next, err := page(c, c.account.Accelerators, in.MaxResults, 100, in.NextToken)
	if err != nil {
		return nil, err
	}
	out := []any{}
	for _, a := range items {
		out = append(out, map[string]any{
			"AcceleratorArn": a.Arn, "Name": a.Name, "DnsName": a.DNSName, "Enabled": a.Enabled, "Status": "DEPLOYED", "IpAddressType": "IPV4",
			"IpSets": []any{map[string]any{"IpFamily": "IPv4", "IpAddressFamily": "IPv4", "IpAddresses": a.IPAddresses}},
		})
	}
	return answer("Accelerators", out, "NextToken", next)
}

func listAcceleratorListeners(c *call) ([]byte, error) {
	in, err := c.listInput()
	if err != nil {
		return nil, err
	}
	for _, a := range c.account.Accelerators {
		if a.Arn != in.AcceleratorArn {
			continue
		}
		items, next, err := page(c, a.Listeners, in.MaxResults, 100, in.NextToken)
		if err != nil {
			return nil, err
		}
		out := []any{}
		for _, l := range items {
			out = append(out, map[string]any{
				"ListenerArn": l.Arn, "Protocol": l.Protocol,
				"PortRanges": []any{map[string]any{"FromPort": l.FromPort, "ToPort": l.ToPort}},
			})
		}
		return answer("Listeners", out, "NextToken", next)
	}
	return nil, &apiError{"AcceleratorNotFoundException", "The accelerator does not exist", http.StatusBadRequest}
}

func listEndpointGroups(c *call) ([]byte, error) {
	in, err := c.listInput()
	if err != nil {
		return nil, err
	}
	for _, a := range c.account.Accelerators {
		for _, l := range a.Listeners {
			if l.Arn != in.ListenerArn {
				continue
			}
			items, next, err := page(c, l.EndpointGroups, in.MaxResults, 100, in.NextToken)
			if err != nil {
				return nil, err
			}
			out := []any{}
			for _, g := range items {
				out = append(out, map[string]any{
					"EndpointGroupArn": g.Arn, "EndpointGroupRegion": g.Region,
					"PortOverrides": g.PortOverrides, "EndpointDescriptions": g.Endpoints,
				})
			}
			return answer("EndpointGroups", out, "NextToken", next)
		}
	}
	return nil, &apiError{"ListenerNotFoundException", "The listener does not exist", http.StatusBadRequest}
}

// managing refuses callers other than the organization's management account.
func (c *call) managing() error {
	switch c.world.Management {
	case c.account.ID:
		return nil
	case "":
		return &apiError{"AWSOrganizationsNotInUseException", "Your account is not a member of an organization.", http.StatusBadRequest}
	}
	return &apiError{"AccessDeniedException", "You don't have permissions to access this resource.", http.StatusBadRequest}
}

func listAccounts(c *call) ([]byte, error) {
	if err := c.managing(); err != nil {
		return nil, err
	}
	in, err := c.listInput()
	if err != nil {
		return nil, err
	}
	items, next, err := page(c, c.world.Accounts, in.MaxResults, 20, in.NextToken)
	if err != nil {
		return nil, err
	}
	out := []any{}
	for _, a := range items {
		out = append(out, map[string]any{
			"Id": a.ID, "Name": a.Name, "Status": a.Status, "State": a.Status, "JoinedMethod": "CREATED",
			"Email": "aws+" + a.ID + "@example.com",
			"Arn":   c.world.arn("organizations", "", c.world.Management, "account/o-emulated00/"+a.ID),
		})
	}
	return answer("Accounts", out, "NextToken", next)
}

func describeOrganization(c *call) ([]byte, error) {
	if c.world.Management == "" {
		return nil, c.managing()
	}
	return answer("Organization", map[string]any{
		"Id": "o-emulated00", "FeatureSet": "ALL", "MasterAccountId": c.world.Management,
		"Arn": c.world.arn("organizations", "", c.world.Management, "organization/o-emulated00"),
	}, "", "")
}
