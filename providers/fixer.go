package providers

import (
	"context"
	"errors"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// Change is what is asked of a Rewriter: a list, allow rules of it, and what has to become of what they admit.
type Change struct {
	// List is the whole list, as Snapshot.Lists holds it.
	List *cloud.List
	// Rules are the rules of List to change, in its order.
	Rules []cloud.Rule
	// Drop is what the rules must no longer admit. Keep is what they must go on admitting. What is in neither may go either
	// way: it is from addresses that no host sends from.
	Drop, Keep traffic.Set
	// Spare is the part of Drop that other rules admit, of this list or of another in front of the same endpoints, and that
	// has to stay open: a deny must leave it out.
	Spare traffic.Set
	// Spares are, for each of Rules, the part of Spare that is in front of an endpoint that the rule concerns.
	Spares []traffic.Set
}

// Way is one way to make a change: edits of the list in an order in which nothing that has to stay is closed, and nothing
// opened, after any of them.
type Way struct {
	Name  string       `json:"name"`  // such as "deny rules"
	Edits []cloud.Edit `json:"edits"` // each is one write
	// Peak is the number of rules, as the list's Quota counts them, when there are most; zero without a quota.
	Peak int `json:"peak,omitempty"`
	// Trifle is what gets lost although it is in Keep, and need not be asked about, with the reason in Why. Everything else
	// of Keep that a way loses is a loss, and needs consent.
	Trifle traffic.Set `json:"trifle,omitzero"`
	Why    string      `json:"why,omitempty"`
	// Instead says, for a way that loses something, what can be done to lose less, in one sentence.
	Instead string `json:"instead,omitempty"`
}

// Rewriter computes what to write, without writing or reading anything. It is pure: equal changes give equal ways.
type Rewriter interface {
	// Rewrite returns the ways to make c, the best first. A later way serves where the cloud turns out not to keep what an
	// earlier one needs, and Apply says ErrInexpressible. New rules have a native form that says all that is to be written,
	// their packets, and an id that nothing in the list has.
	//
	// It wraps ErrInexpressible, with the reason in words, if the cloud's rules cannot say it, or not within its limits.
	Rewrite(c Change) ([]Way, error)

	// Guard returns the way to put a list in front of an endpoint that none protects, which admits everything that the
	// cloud's rules can name, but for drop. It wraps ErrInexpressible where there is no such thing.
	Guard(e *cloud.Endpoint, was *cloud.List, drop, keep traffic.Set) (Way, error)

	// Commands returns e as commands of the vendor's own tool, one argument list each.
	Commands(e cloud.Edit) ([][]string, error)
}

// Fixer is a Provider that can also write.
type Fixer interface {
	Provider
	Rewriter

	// Apply carries out e by one write and returns it as carried out: with the rules of New as the cloud shows them when read
	// back, with their ids, and, where e made a list, with the list's. It returns when the change is in force.
	//
	// It reads the list first. If the list has another Digest than e.Base, or lacks one of e.Old, the error wraps ErrStale
	// and nothing is written. If the cloud turns out not to keep what e says, such as that a rule denies, the error wraps
	// ErrInexpressible, and the edit is what the cloud made of it, which opens nothing and is taken back by its inverse;
	// without rules it says that nothing was made. After any other error it is not known whether the write happened:
	// reading the scope tells.
	//
	// Inverse edits are carried out in the same way. A write is never sent twice.
	Apply(ctx context.Context, e cloud.Edit) (cloud.Edit, error)
}

// Watcher is a Fixer that reads some lists only in part while they open nothing that is asked about.
type Watcher interface {
	// Watch makes every later Read read these lists whole, so that they can be compared with what they were.
	Watch(lists []cloud.Ref)
}

var (
	// ErrInexpressible is wrapped by errors that say that a cloud has no rule for what is asked.
	ErrInexpressible = errors.New("cannot be expressed")
	// ErrStale is wrapped by errors that say that a list is not what an edit starts from.
	ErrStale = errors.New("changed since the plan")
)
