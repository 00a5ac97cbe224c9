package notify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/nicholas-fedor/shoutrrr/pkg/format"
	"github.com/nicholas-fedor/shoutrrr/pkg/router"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"
)

// Timeout is how long one attempt may take, and attempts how many there are.
const (
	Timeout  = 10 * time.Second
	attempts = 3
)

// Sleep waits for some time, or until a context ends.
type Sleep func(context.Context, time.Duration) error

// errTimeout is what an attempt that has not ended in time has failed with.
var errTimeout = errors.New("timeout")

// Send sends a message to the service at address, in the form of github.com/nicholas-fedor/shoutrrr. It tries three times.
// The error has no part of the address.
func Send(ctx context.Context, address, title, message string, sleep Sleep) error {
	service, err := new(router.ServiceRouter).Locate(address)
	if err != nil {
		return errors.New("the address is none of a service that is known here, or lacks something")
	}
	return retry(ctx, sleep, func(ctx context.Context) error {
		done := make(chan error, 1)
		go func() {
			defer func() {
				if recover() != nil { // a notification must not end the run
					done <- errors.New("the library of notifications broke down")
				}
			}()
			params := types.Params{}
			params.SetTitle(title)
			err := service.Send(message, &params)
			if errors.Is(err, format.ErrInvalidConfigKey) {
				err = service.Send(message, &types.Params{}) // a service without titles, which has sent nothing yet
			}
			done <- err
		}()
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			return errTimeout
		}
	})
}

// Ping asks a watchdog's address after a run. A run that has failed asks for the path fail below it, as healthchecks.io
// wants it (https://healthchecks.io/docs/http_api/). It tries three times. The error has no part of the address.
func Ping(ctx context.Context, address string, ok bool, sleep Sleep) error {
	at, err := ParseHeartbeat(address)
	if err != nil {
		return err
	}
	if !ok {
		at = at.JoinPath("fail")
	}
	return retry(ctx, sleep, func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode >= http.StatusBadRequest {
			return errors.New(status(response.StatusCode))
		}
		return nil
	})
}

// ParseHeartbeat reads the address of a watchdog. The error has no part of it.
func ParseHeartbeat(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("want an address that begins with https:// or http://")
	}
	return u, nil
}

// retry tries until it succeeds, three times at most, and waits longer after each.
func retry(ctx context.Context, sleep Sleep, try func(context.Context) error) error {
	for n := 1; ; n++ {
		limited, cancel := context.WithTimeout(ctx, Timeout)
		err := try(limited)
		cancel()
		if err == nil {
			return nil
		}
		if n == attempts {
			return fmt.Errorf("tried %d times: %s", n, cause(err))
		}
		if err := sleep(ctx, time.Duration(n*n)*time.Second); err != nil {
			return fmt.Errorf("tried %d times, and was interrupted", n)
		}
	}
}

func status(code int) string { return fmt.Sprintf("%d %s", code, http.StatusText(code)) }

// cause says in words of its own why err was. Libraries put the address into the text of their errors, or parts of it, so
// that the text cannot be shown.
func cause(err error) string {
	text := strings.ToLower(err.Error())
	for code := 400; code < 600; code++ {
		if name := http.StatusText(code); name != "" && strings.Contains(text, strings.ToLower(status(code))) {
			return "the answer was " + status(code)
		}
	}
	for _, known := range []struct{ in, say string }{
		{"timeout", "no answer in time"},
		{"deadline exceeded", "no answer in time"},
		{"timed out", "no answer in time"},
		{"connection refused", "the connection was refused"},
		{"connection reset", "the connection broke"},
		{"no such host", "the name of the host is not known"},
		{"network is unreachable", "there is no way to the host"},
		{"no route to host", "there is no way to the host"},
		{"x509", "the certificate is not trusted"},
		{"tls", "no TLS with the host"},
		{"authentication", "the credentials were refused"},
	} {
		if strings.Contains(text, known.in) {
			return known.say
		}
	}
	return "it was not accepted"
}
