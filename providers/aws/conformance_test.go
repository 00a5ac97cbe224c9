package aws_test

import (
	"net/http"
	"slices"
	"testing"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/internal/emulate"
	"github.com/cloudaudit/cloudaudit/internal/emulate/ec2"
	"github.com/cloudaudit/cloudaudit/providers"
	"github.com/cloudaudit/cloudaudit/providers/aws"
	"github.com/cloudaudit/cloudaudit/providers/providertest"
)

func TestConformance(t *testing.T) {
	t.Parallel() // throttled operations wait
	providertest.Run(t, providertest.Cloud{
		Open: func(t *testing.T, match func(string, *http.Request) emulate.Fault, smallPages bool) (providers.Provider, *emulate.Faults) {
			w := ec2.Demo()
			if smallPages {
				w.PageSize = 5
			}
			return serve(t, w, w.Management, aws.Config{Organization: true, Role: ec2.DemoRole}, match)
		},
		Question: cloud.Question{Ports: []uint16{11211}},
		ListsScopes: func(operation string) bool {
			return slices.Contains([]string{"sts:GetCallerIdentity", "organizations:ListAccounts", "ec2:DescribeRegions"}, operation)
		},
		Names: func(operation string) bool { return operation == "ec2:DescribeInstances" },
	})
}
