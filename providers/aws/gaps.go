package aws

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	smithy "github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/cloudaudit/cloudaudit/cloud"
)

// gapOf says that action failed with err, and what to do about it. Nothing in it changes from one run to the next.
func gapOf(action string, err error) cloud.Gap {
	g := cloud.Gap{Subject: action, Cause: causeOf(err)}
	var api smithy.APIError
	switch {
	case !errors.As(err, &api):
		g.Hint = "the service did not answer as AWS does: check the network, HTTPS_PROXY and AWS_ENDPOINT_URL, and run again"
	case refuses(api.ErrorCode()):
		g.Hint = fmt.Sprintf("grant %s to the caller; `cloudaudit providers` lists every permission that is needed", action)
		if action == "sts:AssumeRole" {
			g.Hint = "create the role in this account with a trust policy for the caller, and allow the caller to assume it"
		}
	case strings.Contains(api.ErrorCode(), "Limit") || strings.Contains(api.ErrorCode(), "Throttl") || strings.Contains(api.ErrorCode(), "TooManyRequests"):
		g.Hint = "AWS asked to come back later: run again with a smaller --concurrency"
	case api.ErrorCode() == "AuthFailure" || api.ErrorCode() == "OptInRequired" || strings.Contains(api.ErrorCode(), "UnrecognizedClient") || api.ErrorCode() == "InvalidClientTokenId":
		g.Hint = "check that the region is enabled in this account, and that the credentials are still valid"
	default:
		g.Hint = fmt.Sprintf("%s failed: run again, and if it stays so check that the endpoint offers the operation", action)
	}
	return g
}

// refuses says whether the error code means a missing permission.
func refuses(code string) bool {
	return strings.HasPrefix(code, "UnauthorizedOperation") || strings.HasPrefix(code, "AccessDenied") ||
		strings.HasPrefix(code, "NotAuthorized") || strings.HasPrefix(code, "AuthorizationError")
}

// causeOf returns what the service answered, in one line and without request ids, addresses of proxies, or the encoded part
// of a refusal, which differ each time.
func causeOf(err error) string {
	var (
		api      smithy.APIError
		response *smithyhttp.ResponseError
		request  *url.Error
		lookup   *net.DNSError
	)
	switch {
	case errors.As(err, &api) && api.ErrorCode() != "UnknownError":
		message, _, _ := strings.Cut(api.ErrorMessage(), " Encoded authorization failure message")
		return strings.TrimSuffix(api.ErrorCode()+": "+message, ": ")
	case errors.As(err, &response) && response.HTTPStatusCode() != 0:
		return fmt.Sprintf("HTTP status %d, and no answer that AWS would give", response.HTTPStatusCode())
	case errors.As(err, &lookup):
		return "no such host: " + lookup.Name
	case errors.As(err, &request):
		return request.Err.Error()
	}
	return err.Error()
}
