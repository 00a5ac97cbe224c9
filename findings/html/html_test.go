package html

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"golang.org/x/net/html"
	"pgregory.net/rapid"

	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/findings/findingstest"
)

func written(t interface{ Fatal(...any) }, r *findings.Report) []byte {
	var out bytes.Buffer
	if err := Write(&out, r); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// shape parses a page and returns its elements and comments, in order, each attribute as one string: its name, and its
// value if it is not one that the report gives.
func shape(t interface{ Fatal(...any) }, page []byte) (out [][]string) {
	root, err := html.Parse(bytes.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	for n := range root.Descendants() {
		switch n.Type {
		case html.CommentNode:
			out = append(out, []string{"comment"})
		case html.ElementNode:
			element := []string{n.Data}
			for _, a := range n.Attr {
				if a.Key == "id" || a.Key == "href" {
					a.Val = ""
				}
				element = append(element, a.Key+"="+a.Val)
			}
			out = append(out, element)
		}
	}
	return out
}

func checkSafe(t interface {
	Errorf(string, ...any)
	Fatal(...any)
}, page []byte,
) {
	for _, c := range string(page) {
		if c != '\n' && !unicode.IsPrint(c) {
			t.Errorf("the page has %U", c)
			return
		}
	}
	for _, element := range shape(t, page) {
		if !slices.Contains(strings.Fields("html head meta title style body header main section article fieldset legend label input h1 h2 h3 p b a "+
			"span div code details summary table thead tbody tr th td ol ul li pre br"), element[0]) {
			t.Errorf("the page has <%s>", element)
		}
		for _, attribute := range element[1:] {
			name, _, _ := strings.Cut(attribute, "=")
			if strings.HasPrefix(name, "on") || name == "style" || name == "src" {
				t.Errorf("the page has <%s>", element)
			}
		}
	}
	for _, part := range bytes.Split(page, []byte(`href="`))[1:] {
		link, _, _ := bytes.Cut(part, []byte(`"`))
		if !bytes.HasPrefix(link, []byte("#")) && !slices.ContainsFunc(findings.Checks(), func(c findings.Check) bool { return c.Source == string(link) }) {
			t.Errorf("the page has the link %s", link)
		}
	}
}

func TestGolden(t *testing.T) {
	got := written(t, findingstest.Report())
	findingstest.Golden(t, "report.html", got)
	checkSafe(t, got)
	if again := written(t, findingstest.Report()); !bytes.Equal(got, again) {
		t.Error("the same snapshots gave two pages")
	}
	compared := written(t, findingstest.Compared())
	findingstest.Golden(t, "compared.html", compared)
	checkSafe(t, compared)
	for _, want := range []string{"(1 not read now)", "1 gone", "1 ignored", "The finding that is gone.", "The finding that is carried on.", "partner", "until 2030-01-31"} {
		if !bytes.Contains(compared, []byte(want)) {
			t.Errorf("the compared report does not say %q", want)
		}
	}
}

// TestPolicy checks that the style of the page is the one that its policy allows: a browser would not show it otherwise.
func TestPolicy(t *testing.T) {
	page := string(written(t, findingstest.Report()))
	_, rest, _ := strings.Cut(page, "<style>")
	style, _, _ := strings.Cut(rest, "</style>")
	sum := sha256.Sum256([]byte(style))
	if want := "style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"; !strings.Contains(page, want) {
		t.Errorf("the policy does not hold %s", want)
	}
	if !strings.Contains(page, "default-src 'none'") {
		t.Error("the policy allows more than it has to")
	}
}

// TestAnyName checks that no name changes the elements of the page.
func TestAnyName(t *testing.T) {
	want := shape(t, written(t, findingstest.Renamed("name")))
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.OneOf(rapid.StringN(1, -1, -1), rapid.SampledFrom(findingstest.Hostile()),
			rapid.StringOfN(rapid.SampledFrom([]rune("<>\"'&=/!-a \n\x1b`")), 1, -1, -1)).Draw(t, "name")
		page := written(t, findingstest.Renamed(name))
		checkSafe(t, page)
		if got := shape(t, page); !slices.EqualFunc(want, got, slices.Equal) {
			t.Fatalf("%q made the page\n%q,\nwhich is\n%q for another name", name, got, want)
		}
	})
}

func TestRun(t *testing.T) {
	r := findingstest.Renamed("name")
	r.Run = findings.Run{Version: "1.2.3", Started: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	r.Run.Finished = r.Run.Started.Add(90 * time.Second)
	if page := string(written(t, r)); !strings.Contains(page, "1.2.3") || !strings.Contains(page, "2026-01-02T03:04:05Z, 1m30s") {
		t.Error("the page does not say which run it is of")
	}
}

func TestLarge(t *testing.T) {
	r := findingstest.Renamed("name")
	for i := range mostExposures + 10 {
		x := r.Exposures[0]
		x.Address = fmt.Sprint("address-", i)
		r.Exposures = append(r.Exposures, x)
		r.Findings[0].Exposures = append(r.Findings[0].Exposures, i+1)
	}
	page := string(written(t, r))
	for _, want := range []string{"and 11 more: ", fmt.Sprintf("and %d more: ", mostExposures+11-mostRows)} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestWriteError(t *testing.T) {
	if err := Write(broken{}, findingstest.Report()); err == nil {
		t.Error("no error")
	}
}
