// Package aws reads accounts of Amazon Web Services, one region at a time, into the vocabulary of package cloud: whatever
// decides whether the internet reaches a port of an interface, a load balancer target or a Lightsail instance becomes a
// layer of the path there. It only translates: no verdict is formed here, and whatever could not be read leaves a Gap and
// a doubt, never silence.
package aws

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/hashicorp/go-hclog"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/providers"
)

// Config says what to read. The zero Config reads all enabled regions of the caller's account.
type Config struct {
	// Regions limits reading to these. Empty: all enabled regions of each account.
	Regions []string
	// Profile names a profile of the shared configuration files. Empty: the SDK's own choice.
	Profile string
	// Organization reads every active account of the caller's organization, entering each through the role named Role.
	Organization bool
	Role         string
	// Ports are the ports that will be asked about. Rule ids and names of instances are fetched only for groups that hold a
	// rule for one of them. Empty: every port.
	Ports []uint16
	// Concurrency bounds the requests in flight, over all accounts and regions. Zero: 256.
	Concurrency int
	// Log gets the number of calls of each scope at debug level. Nil: nothing is logged.
	Log hclog.Logger
	// Sleep waits until a change shows, or ctx ends. Nil: by the clock.
	Sleep func(context.Context, time.Duration) error
	// Options are further options of the SDK's configuration, such as an endpoint or credentials for an emulated cloud.
	Options []func(*config.LoadOptions) error
	// Base is a configuration to use instead of that of the environment and the shared files, for an emulated cloud that
	// must not be mistaken for a real one. Profile and Options do not apply to it.
	Base *aws.Config
}

// Provider reads AWS. It implements providers.Provider.
type Provider struct {
	config Config
	log    hclog.Logger

	mu        sync.Mutex
	base      *aws.Config         // the caller's configuration; nil until first used
	identity  *identity           // who the caller is; nil until first used
	accounts  map[string]*account // by id
	refused   map[string]refusal  // why an account has no regions, by account id
	permitted map[cloud.Ref]bool  // groups that may be written to
	watching  map[cloud.Ref]bool  // groups to read whole
}

var _ providers.Provider = (*Provider)(nil)

// New returns a provider that reads what c says. It does no I/O.
func New(c Config) *Provider {
	if c.Concurrency <= 0 {
		c.Concurrency = 256
	}
	log := c.Log
	if log == nil {
		log = hclog.NewNullLogger()
	}
	return &Provider{config: c, log: log, accounts: map[string]*account{}, refused: map[string]refusal{}, permitted: map[cloud.Ref]bool{}, watching: map[cloud.Ref]bool{}}
}

// sleep waits for d, or until ctx ends.
func (p *Provider) sleep(ctx context.Context, d time.Duration) error {
	if p.config.Sleep != nil {
		return p.config.Sleep(ctx, d)
	}
	return providers.Sleep(ctx, d)
}

// Found says, without any request, where credentials of AWS seem to be, or "" if there is no sign of any.
func Found(getenv func(string) string, exists func(path string) bool) string {
	for _, name := range []string{
		"AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE",
		"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
	} {
		if getenv(name) != "" {
			return name
		}
	}
	for name, path := range map[string]string{
		"AWS_SHARED_CREDENTIALS_FILE": config.DefaultSharedCredentialsFilename(),
		"AWS_CONFIG_FILE":             config.DefaultSharedConfigFilename(),
	} {
		if set := getenv(name); set != "" {
			path = set
		}
		if exists(path) {
			return path
		}
	}
	return ""
}

// configuration returns the caller's configuration, which it loads once.
func (p *Provider) configuration(ctx context.Context) (aws.Config, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.base != nil {
		return *p.base, nil
	}
	client := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConns = 0
		t.MaxIdleConnsPerHost = p.config.Concurrency
		t.ResponseHeaderTimeout = time.Minute
	})
	newRetryer := func() aws.Retryer { return newRetryer() }
	var c aws.Config
	if p.config.Base != nil {
		c = p.config.Base.Copy()
		c.HTTPClient, c.Retryer = client, newRetryer
	} else {
		options := []func(*config.LoadOptions) error{config.WithHTTPClient(client), config.WithRetryer(newRetryer)}
		if p.config.Profile != "" {
			options = append(options, config.WithSharedConfigProfile(p.config.Profile))
		}
		var err error
		if c, err = config.LoadDefaultConfig(ctx, append(options, p.config.Options...)...); err != nil {
			return aws.Config{}, &providers.Hint{
				Err:  fmt.Errorf("aws: %w: %w", providers.ErrNotConfigured, err),
				Next: "check AWS_PROFILE, ~/.aws/config and ~/.aws/credentials",
			}
		}
	}
	if c.Region == "" {
		c.Region = "us-east-1"
		if len(p.config.Regions) > 0 {
			c.Region = p.config.Regions[0]
		}
	}
	c.HTTPClient = &boundedClient{next: c.HTTPClient, slots: make(chan struct{}, p.config.Concurrency)}
	p.base = &c
	return c, nil
}

// boundedClient sends the requests of all accounts and regions through one transport, so many at a time.
type boundedClient struct {
	next  aws.HTTPClient
	slots chan struct{}
}

// Do sends r when a slot is free, and frees it when the answer is read.
//
// The body is wrapped anew: the SDK closes it as soon as the answer begins, while the transport may still be in its last
// write, and the transport then drops the connection in the middle of the answer.
func (c *boundedClient) Do(r *http.Request) (*http.Response, error) {
	select {
	case c.slots <- struct{}{}:
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	free := sync.OnceFunc(func() { <-c.slots })
	if r.Body != nil && r.Body != http.NoBody {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			free()
			return nil, err
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		r.ContentLength = int64(len(body))
	}
	response, err := c.next.Do(r)
	if err != nil {
		free()
		return nil, err
	}
	response.Body = &freeing{response.Body, free}
	return response, nil
}

type freeing struct {
	io.ReadCloser
	free func()
}

// Close closes the body and frees the slot of its request.
func (b *freeing) Close() error {
	defer b.free()
	return b.ReadCloser.Close()
}

// retryer is the SDK's adaptive retryer, one for each operation of a client: AWS throttles each operation on its own, and
// one that is throttled need not slow the others. It has patience for throttling alone: a service that asks to come back
// later is asked again for a minute or two, one that is broken three times in all.
type retryer struct {
	*retry.AdaptiveMode // decides what is worth another attempt

	mu          sync.Mutex
	byOperation map[string]*retry.AdaptiveMode
}

const (
	attemptsIfThrottled = 20
	attemptsIfBroken    = 3
	longestDelay        = 5 * time.Second
)

func newRetryer() *retryer {
	return &retryer{AdaptiveMode: newAdaptiveMode(), byOperation: map[string]*retry.AdaptiveMode{}}
}

func newAdaptiveMode() *retry.AdaptiveMode {
	return retry.NewAdaptiveMode(func(o *retry.AdaptiveModeOptions) {
		o.StandardOptions = append(o.StandardOptions, func(s *retry.StandardOptions) {
			s.MaxAttempts = attemptsIfThrottled
			s.RateLimiter = ratelimit.None
		})
	})
}

// GetAttemptToken waits until the operation of ctx may be tried.
func (r *retryer) GetAttemptToken(ctx context.Context) (func(error) error, error) {
	name := middleware.GetOperationName(ctx)
	r.mu.Lock()
	mode := r.byOperation[name]
	if mode == nil {
		mode = newAdaptiveMode()
		r.byOperation[name] = mode
	}
	r.mu.Unlock()
	return mode.GetAttemptToken(ctx)
}

// RetryDelay returns how long to wait after attempt, or err if that was the last one.
func (r *retryer) RetryDelay(attempt int, err error) (time.Duration, error) {
	if attempt >= attemptsIfBroken && retry.IsErrorThrottles(retry.DefaultThrottles).IsErrorThrottle(err) != aws.TrueTernary {
		return 0, err
	}
	delay := min(longestDelay, 50*time.Millisecond<<min(attempt, 10))
	return time.Duration((0.5 + rand.Float64()/2) * float64(delay)), nil
}
