package ec2

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
)

// A service is one of the emulated APIs.
type service struct {
	name      string // as in permissions: ec2, sts, elasticloadbalancing, …
	namespace string // of XML answers
	json      bool
}

var (
	serviceEC2           = &service{name: "ec2", namespace: "http://ec2.amazonaws.com/doc/2016-11-15/"}
	serviceSTS           = &service{name: "sts", namespace: "https://sts.amazonaws.com/doc/2011-06-15/"}
	serviceClassic       = &service{name: "elasticloadbalancing", namespace: "http://elasticloadbalancing.amazonaws.com/doc/2012-06-01/"}
	serviceV2            = &service{name: "elasticloadbalancing", namespace: "http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/"}
	serviceLightsail     = &service{name: "lightsail", json: true}
	serviceAccelerator   = &service{name: "globalaccelerator", json: true}
	serviceOrganizations = &service{name: "organizations", json: true}
)

// serviceOf tells the APIs apart as one shared endpoint has to: by the target header of the JSON protocols and by the
// version parameter of the query protocol.
func serviceOf(target, version string) *service {
	switch {
	case strings.HasPrefix(target, "Lightsail_20161128."):
		return serviceLightsail
	case strings.HasPrefix(target, "GlobalAccelerator_V20180706."):
		return serviceAccelerator
	case strings.HasPrefix(target, "AWSOrganizationsV20161128."):
		return serviceOrganizations
	case target != "":
		return nil
	}
	switch version {
	case "2016-11-15":
		return serviceEC2
	case "2011-06-15":
		return serviceSTS
	case "2012-06-01":
		return serviceClassic
	case "2015-12-01":
		return serviceV2
	}
	return nil
}

// request is what every operation looks at.
type request struct {
	service *service
	action  string
	form    url.Values      // of the query protocol
	body    json.RawMessage // of the JSON protocols
	key     string          // access key
	region  string          // of the credential scope
}

// parse reads r and leaves its body readable again.
func parse(r *http.Request) (*request, error) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	q := &request{}
	if _, scope, ok := strings.Cut(r.Header.Get("Authorization"), "Credential="); ok {
		scope, _, _ = strings.Cut(scope, ",")
		if parts := strings.Split(strings.TrimSpace(scope), "/"); len(parts) == 5 {
			q.key, q.region = parts[0], parts[2]
		}
	}
	target := r.Header.Get("X-Amz-Target")
	if target != "" {
		_, q.action, _ = strings.Cut(target, ".")
		q.body = body
	} else {
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return nil, err
		}
		for k, v := range r.URL.Query() {
			form[k] = append(form[k], v...)
		}
		q.form, q.action = form, form.Get("Action")
	}
	q.service = serviceOf(target, q.form.Get("Version"))
	return q, nil
}

// Operation names the operation as IAM does: "ec2:DescribeNetworkAcls". Unknown services are "unknown:" and the action. A
// request that is not to be carried out has " (dry run)" behind it.
func (w *World) Operation(r *http.Request) string {
	q, err := parse(r)
	if err != nil || q.service == nil {
		return "unknown:" + r.Header.Get("X-Amz-Target")
	}
	op := q.service.name + ":" + q.action
	if q.form.Get("DryRun") == "true" {
		op += " (dry run)"
	}
	return op
}

// Region returns the region that r is signed for.
func (w *World) Region(r *http.Request) string {
	q, err := parse(r)
	if err != nil {
		return ""
	}
	return q.region
}

// AccountOf returns the id of the account whose key r is signed with, or "".
func (w *World) AccountOf(r *http.Request) string {
	q, err := parse(r)
	if err != nil {
		return ""
	}
	if a := w.byKey(q.key); a != nil {
		return a.ID
	}
	return ""
}

// apiError is an error answer of any of the services.
type apiError struct {
	code    string
	message string
	status  int
}

func (e *apiError) Error() string { return e.code + ": " + e.message }

func invalid(format string, args ...any) error {
	return &apiError{code: "InvalidParameterValue", message: fmt.Sprintf(format, args...), status: http.StatusBadRequest}
}

// Refuse answers as each service does when the caller lacks the permission.
func (w *World) Refuse(rw http.ResponseWriter, r *http.Request) {
	q, err := parse(r)
	if err != nil || q.service == nil {
		http.Error(rw, "bad request", http.StatusBadRequest)
		return
	}
	w.fail(rw, q, w.refusal(q))
}

func (w *World) refusal(q *request) error {
	caller := "arn:" + w.Partition + ":iam::000000000000:user/auditor"
	if a := w.byKey(q.key); a != nil {
		caller = w.arn("iam", "", a.ID, "user/auditor")
	}
	op := q.service.name + ":" + q.action
	message := fmt.Sprintf("User: %s is not authorized to perform: %s because no identity-based policy allows the %s action", caller, op, op)
	switch {
	case q.service == serviceEC2:
		return &apiError{"UnauthorizedOperation", "You are not authorized to perform this operation. " + message, http.StatusForbidden}
	case q.service.json:
		return &apiError{"AccessDeniedException", message, http.StatusBadRequest}
	default:
		return &apiError{"AccessDenied", message, http.StatusForbidden}
	}
}

// Throttle answers as each service does when asked too often.
func (w *World) Throttle(rw http.ResponseWriter, r *http.Request) {
	q, err := parse(r)
	if err != nil || q.service == nil {
		http.Error(rw, "bad request", http.StatusBadRequest)
		return
	}
	switch {
	case q.service == serviceEC2:
		err = &apiError{"RequestLimitExceeded", "Request limit exceeded.", http.StatusServiceUnavailable}
	case q.service == serviceOrganizations:
		err = &apiError{"TooManyRequestsException", "Too many requests", http.StatusBadRequest}
	case q.service.json:
		err = &apiError{"ThrottlingException", "Rate exceeded", http.StatusBadRequest}
	default:
		err = &apiError{"Throttling", "Rate exceeded", http.StatusBadRequest}
	}
	w.fail(rw, q, err)
}

// call is one request together with the part of the world that it may see.
type call struct {
	*request
	world   *World
	account *Account
	here    *Region // nil for services without regions
}

// ServeHTTP answers one request. The path is ignored, so that the endpoint can stand below any prefix.
func (w *World) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	q, err := parse(r)
	if err != nil || q.service == nil {
		http.Error(rw, "no such service", http.StatusNotFound)
		return
	}
	if writing[q.action] {
		w.mu.Lock()
		defer w.mu.Unlock()
	} else {
		w.mu.RLock()
		defer w.mu.RUnlock()
	}
	answer, err := w.answer(q)
	if err != nil {
		w.fail(rw, q, err)
		return
	}
	w.head(rw, q, http.StatusOK)
	_, _ = rw.Write(answer)
}

func (w *World) head(rw http.ResponseWriter, q *request, status int) string {
	id := fmt.Sprintf("00000000-0000-4000-8000-%012d", atomic.AddUint64(&w.requests, 1))
	contentType := "text/xml;charset=UTF-8"
	if q.service.json {
		contentType = "application/x-amz-json-1.1"
	}
	rw.Header().Set("Content-Type", contentType)
	rw.Header().Set("X-Amzn-Requestid", id)
	rw.WriteHeader(status)
	return id
}

// fail answers with err in the words of the service.
func (w *World) fail(rw http.ResponseWriter, q *request, err error) {
	e, ok := err.(*apiError)
	if !ok {
		e = &apiError{"InternalError", err.Error(), http.StatusInternalServerError}
	}
	id := w.head(rw, q, e.status)
	var out []byte
	switch {
	case q.service.json:
		out, _ = json.Marshal(map[string]string{"__type": e.code, "message": e.message, "Message": e.message})
	case q.service == serviceEC2:
		out = fmt.Appendf(nil, `<?xml version="1.0" encoding="UTF-8"?>`+"\n"+
			`<Response><Errors><Error><Code>%s</Code><Message>%s</Message></Error></Errors><RequestID>%s</RequestID></Response>`,
			e.code, escape(e.message), id)
	default:
		out = fmt.Appendf(nil, `<ErrorResponse xmlns="%s"><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error><RequestId>%s</RequestId></ErrorResponse>`,
			q.service.namespace, e.code, escape(e.message), id)
	}
	_, _ = rw.Write(out)
}

func escape(s string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(s)) // a bytes.Buffer never fails
	return b.String()
}

// operations of each service, by the name of the action.
var (
	operationsEC2 = map[string]func(*call) ([]byte, error){
		"DescribeRegions":                        describeRegions,
		"DescribeNetworkInterfaces":              describeNetworkInterfaces,
		"DescribeSecurityGroups":                 describeSecurityGroups,
		"DescribeSecurityGroupRules":             describeSecurityGroupRules,
		"DescribeSecurityGroupVpcAssociations":   describeSecurityGroupVpcAssociations,
		"DescribeSubnets":                        describeSubnets,
		"DescribeVpcs":                           describeVpcs,
		"DescribeRouteTables":                    describeRouteTables,
		"DescribeNetworkAcls":                    describeNetworkACLs,
		"DescribeInternetGateways":               describeInternetGateways,
		"DescribeVpcBlockPublicAccessOptions":    describeBlockPublicAccessOptions,
		"DescribeVpcBlockPublicAccessExclusions": describeBlockPublicAccessExclusions,
		"DescribeManagedPrefixLists":             describeManagedPrefixLists,
		"GetManagedPrefixListEntries":            managedPrefixListEntries,
		"DescribeInstances":                      describeInstances,
		"AuthorizeSecurityGroupIngress":          authorizeIngress,
		"ModifySecurityGroupRules":               modifyRules,
		"RevokeSecurityGroupIngress":             revokeIngress,
	}
	operationsSTS = map[string]func(*call) ([]byte, error){
		"GetCallerIdentity": callerIdentity,
		"AssumeRole":        assumeRole,
	}
	operationsV2 = map[string]func(*call) ([]byte, error){
		"DescribeLoadBalancers":         describeLoadBalancers,
		"DescribeListeners":             describeListeners,
		"DescribeTargetGroups":          describeTargetGroups,
		"DescribeTargetHealth":          describeTargetHealth,
		"DescribeTargetGroupAttributes": describeTargetGroupAttributes,
	}
	operationsClassic = map[string]func(*call) ([]byte, error){
		"DescribeLoadBalancers": describeClassicLoadBalancers,
	}
	operationsLightsail = map[string]func(*call) ([]byte, error){
		"GetInstances":           lightsailInstances,
		"PutInstancePublicPorts": putPublicPorts,
	}
	operationsAccelerator = map[string]func(*call) ([]byte, error){
		"ListAccelerators":   listAccelerators,
		"ListListeners":      listAcceleratorListeners,
		"ListEndpointGroups": listEndpointGroups,
	}
	operationsOrganizations = map[string]func(*call) ([]byte, error){
		"ListAccounts":         listAccounts,
		"DescribeOrganization": describeOrganization,
	}
)

func (w *World) answer(q *request) ([]byte, error) {
	c := &call{request: q, world: w, account: w.byKey(q.key)}
	var operations map[string]func(*call) ([]byte, error)
	regional := false
	switch q.service {
	case serviceEC2:
		operations, regional = operationsEC2, true
	case serviceSTS:
		operations = operationsSTS
	case serviceV2:
		operations, regional = operationsV2, true
	case serviceClassic:
		operations, regional = operationsClassic, true
	case serviceLightsail:
		operations, regional = operationsLightsail, true
	case serviceAccelerator:
		operations = operationsAccelerator
		if q.region != "us-west-2" {
			return nil, &apiError{"InvalidSignatureException", "Credential should be scoped to a valid region.", http.StatusBadRequest}
		}
	case serviceOrganizations:
		operations = operationsOrganizations
	}
	if c.account == nil {
		return nil, c.noSuchKey()
	}
	if regional {
		if c.here = c.account.region(q.region); c.here == nil {
			return nil, c.noSuchKey()
		}
	}
	operation := operations[q.action]
	if operation == nil {
		return nil, &apiError{"InvalidAction", fmt.Sprintf("The action %s is not valid for this web service.", q.action), http.StatusBadRequest}
	}
	return operation(c)
}

// noSuchKey is the answer to unknown credentials, and to known ones in a region that the account has not enabled.
func (c *call) noSuchKey() error {
	switch {
	case c.service == serviceEC2:
		return &apiError{"AuthFailure", "AWS was not able to validate the provided access credentials", http.StatusUnauthorized}
	case c.service.json:
		return &apiError{"UnrecognizedClientException", "The security token included in the request is invalid.", http.StatusBadRequest}
	default:
		return &apiError{"InvalidClientTokenId", "The security token included in the request is invalid.", http.StatusForbidden}
	}
}

// window cuts one page out of n items. max is what the caller asks for, 0 for everything.
func (c *call) window(n, max int, token string) (from, to int, next string, err error) {
	if token != "" {
		from, err = c.offset(token)
		if err != nil || from > n {
			return 0, 0, "", invalid("The token '%s' is invalid", token)
		}
	}
	if c.world.PageSize > 0 && max > 0 && c.world.PageSize < max {
		max = c.world.PageSize
	}
	to = n
	if max > 0 && from+max < n {
		to = from + max
		next = base64.RawURLEncoding.EncodeToString([]byte(c.action + " " + strconv.Itoa(to)))
	}
	return from, to, next, nil
}

func (c *call) offset(token string) (int, error) {
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return 0, err
	}
	action, n, _ := strings.Cut(string(b), " ")
	if action != c.action {
		return 0, fmt.Errorf("token of %s", action)
	}
	return strconv.Atoi(n)
}

// parameter returns the members of a list parameter: Name.1, Name.2, … or Name.member.1, ….
func (c *call) parameter(name string) []string {
	var out []string
	for i := 1; ; i++ {
		v, ok := c.form[fmt.Sprintf("%s.%d", name, i)]
		if !ok {
			v, ok = c.form[fmt.Sprintf("%s.member.%d", name, i)]
		}
		if !ok {
			return out
		}
		out = append(out, v[0])
	}
}
