package do

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/digitalocean/godo"
)

const (
	// perPage is the most entries that the API puts on a page.
	perPage = 200
	// maxPages is the number of pages after which a list is given up: the requests that a token has in an hour.
	maxPages = 5000
	// surplus is by how much a list may outgrow the total that it gave, because it grew while it was read.
	surplus = 1000
)

// errIncomplete is wrapped by errors that say that a list was read, but perhaps not all of it.
var errIncomplete = errors.New("the list may be incomplete")

// pages reads a list to its end and hands every entry to add, each once. It follows the links to the next page by their
// number alone, so that a token is never sent elsewhere, and it ends also where the API promises a next page for ever: at
// a page that brings nothing new, which is an error unless all that the API counted has been seen.
func pages[T any](
	ctx context.Context, limit int, id func(T) string,
	list func(context.Context, *godo.ListOptions) ([]T, *godo.Response, error), add func(T),
) error {
	seen := map[string]bool{}
	for page, asked := 1, 1; ; asked++ {
		entries, response, err := list(ctx, &godo.ListOptions{Page: page, PerPage: perPage})
		if err != nil {
			return fmt.Errorf("page %d: %w", page, err)
		}
		fresh := 0
		for _, e := range entries {
			if key := id(e); !seen[key] {
				seen[key] = true
				fresh++
				add(e)
			}
		}
		if response.Meta == nil && response.Links == nil && len(entries) == 0 {
			return fmt.Errorf("page %d: the answer is not a list of the API: %w", page, errIncomplete)
		}
		next := 0
		if l := response.Links; l != nil && l.Pages != nil && l.Pages.Next != "" {
			if next, err = pageNumber(l.Pages.Next); err != nil {
				return fmt.Errorf("page %d: link to the next page: %w: %w", page, err, errIncomplete)
			}
		}
		counted := response.Meta != nil && len(seen) >= response.Meta.Total
		switch {
		case next == 0 && (counted || response.Meta == nil):
			return nil
		case next > page && fresh > 0 && asked < limit && (response.Meta == nil || len(seen) <= response.Meta.Total+surplus):
			page = next
			continue
		case counted && (next <= page || fresh == 0):
			return nil // a next page is promised in vain
		case response.Meta == nil:
			return fmt.Errorf("page %d: a next page is promised and brings nothing new: %w", page, errIncomplete)
		}
		return fmt.Errorf("page %d: %d entries read, %d announced: %w", page, len(seen), response.Meta.Total, errIncomplete)
	}
}

// pageNumber returns the page that a link leads to.
func pageNumber(link string) (int, error) {
	u, err := url.Parse(link)
	if err != nil {
		return 0, errors.New("not a URL")
	}
	n, err := strconv.Atoi(u.Query().Get("page"))
	if err != nil || n < 1 {
		return 0, fmt.Errorf("page is %q", u.Query().Get("page"))
	}
	return n, nil
}

// firewall is a firewall as the API sent it: besides what godo decodes, the rules word for word, and whether the
// attributes were there that say what the firewall is attached to.
type firewall struct {
	godo.Firewall
	rules       []json.RawMessage
	showsIDs    bool
	showsTagged bool
}

// UnmarshalJSON decodes a firewall. An attribute that is null is there.
func (f *firewall) UnmarshalJSON(data []byte) error {
	var raw struct {
		Rules      []json.RawMessage `json:"inbound_rules"`
		DropletIDs json.RawMessage   `json:"droplet_ids"`
		Tags       json.RawMessage   `json:"tags"`
	}
	if err := json.Unmarshal(data, &f.Firewall); err != nil {
		return err
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	f.rules, f.showsIDs, f.showsTagged = raw.Rules, raw.DropletIDs != nil, raw.Tags != nil
	return nil
}

// firewalls lists firewalls. godo's own method cannot tell an attribute that is missing from one that is empty.
func (c *client) firewalls(ctx context.Context, o *godo.ListOptions) ([]firewall, *godo.Response, error) {
	path := fmt.Sprintf("/v2/firewalls?page=%d&per_page=%d", o.Page, o.PerPage)
	request, err := c.api.NewRequest(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, nil, err
	}
	var root struct {
		Firewalls []firewall  `json:"firewalls"`
		Links     *godo.Links `json:"links"`
		Meta      *godo.Meta  `json:"meta"`
	}
	response, err := c.api.Do(ctx, request, &root)
	if err != nil {
		return nil, response, err
	}
	response.Links, response.Meta = root.Links, root.Meta
	return root.Firewalls, response, nil
}
