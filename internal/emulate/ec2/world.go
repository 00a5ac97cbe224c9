// Package ec2 is an emulated AWS: EC2, STS, both generations of Elastic Load Balancing, Lightsail, Global Accelerator and
// Organizations behind one http.Handler, answering from a World, which is a plain value.
//
// A World says nothing but what the services themselves would say about it: filters, pages, folded permissions, default
// associations and errors follow the public API descriptions, and no answer depends on who reads it.
package ec2

import (
	"fmt"
	"strings"
	"sync"
)

// World is an organization of accounts, or a single account. Build it by hand or with Parse, then call Complete before it
// serves; while it serves it is guarded by its own lock.
type World struct {
	// Partition is "aws", "aws-us-gov" or "aws-cn".
	Partition string
	// Management is the id of the organization's management account. Empty: no organization.
	Management string
	Accounts   []*Account
	// PageSize caps every page. Zero: as asked, within the limits of each operation.
	PageSize int
	// Settle is for how many readings of rules a change of them does not show yet.
	Settle int
	// RulesPerGroup is how many inbound rules of one family a group may have. Zero: 60.
	RulesPerGroup int
	// KeepsIPv6 leaves the source of an IPv6 rule as it is when the rule is modified, as EC2 does not and others do.
	KeepsIPv6 bool

	mu       sync.RWMutex
	requests uint64
	made     int // rules that were made
	settling settling
}

// Account is one AWS account.
type Account struct {
	ID, Name string
	// Status is ACTIVE, SUSPENDED or PENDING_CLOSURE.
	Status string
	// Roles names the roles that the management account may assume here.
	Roles []string
	// HideManaged hides service-managed interfaces and instances unless a request includes them.
	HideManaged  bool
	Regions      []*Region
	Accelerators []Accelerator
}

// Region is what an account has in one region.
type Region struct {
	Name string
	// OptInStatus is opt-in-not-required, opted-in or not-opted-in.
	OptInStatus string
	// UndescribedIPv6 leaves the implied entries for IPv6 out of network ACLs, as EC2 never does and other emulations do.
	UndescribedIPv6 bool

	Vpcs                 []Vpc
	Subnets              []Subnet
	SecurityGroups       []SecurityGroup
	SecurityGroupRules   []SecurityGroupRule
	VpcAssociations      []SecurityGroupVpcAssociation
	NetworkInterfaces    []NetworkInterface
	RouteTables          []RouteTable
	NetworkACLs          []NetworkACL
	InternetGateways     []InternetGateway
	BlockPublicAccess    BlockPublicAccess
	PrefixLists          []PrefixList
	Instances            []Instance
	LoadBalancers        []LoadBalancer
	TargetGroups         []TargetGroup
	ClassicLoadBalancers []ClassicLoadBalancer
	LightsailInstances   []LightsailInstance
}

// Keys returns the access key of an account's auditor. They open nothing but this emulation.
func (w *World) Keys(account string) (id, secret string) {
	return "AKIAEMUL" + account, "emulated-secret-of-" + account
}

// sessionKey is the access key that AssumeRole hands out for account.
func sessionKey(account string) string { return "ASIAEMUL" + account }

// account returns the account with the id, or nil.
func (w *World) account(id string) *Account {
	for _, a := range w.Accounts {
		if a.ID == id {
			return a
		}
	}
	return nil
}

// byKey returns the account that an access key belongs to, or nil.
func (w *World) byKey(key string) *Account {
	for _, prefix := range []string{"AKIAEMUL", "ASIAEMUL"} {
		if id, ok := strings.CutPrefix(key, prefix); ok {
			return w.account(id)
		}
	}
	return nil
}

// region returns the region of the account if the account has enabled it, else nil.
func (a *Account) region(name string) *Region {
	for _, r := range a.Regions {
		if r.Name == name && r.OptInStatus != "not-opted-in" {
			return r
		}
	}
	return nil
}

func (w *World) arn(service, region, account, resource string) string {
	return fmt.Sprintf("arn:%s:%s:%s:%s:%s", w.Partition, service, region, account, resource)
}
