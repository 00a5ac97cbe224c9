package release

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// tree is a copy of the checkout in which a release has been built as .goreleaser.yaml says.
type tree struct {
	dir           string
	binary        string // its path
	deb, rpm, apk string // their paths
	commit        time.Time
}

// files returns every file of a release in t by its path in the tree.
func (t tree) files(test *testing.T) map[string][]byte {
	test.Helper()
	out := map[string][]byte{}
	for _, dir := range []string{".release", "dist"} {
		err := filepath.WalkDir(filepath.Join(t.dir, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			name, err := filepath.Rel(t.dir, path)
			if err != nil {
				return err
			}
			out[filepath.ToSlash(name)], err = os.ReadFile(path)
			return err
		})
		if err != nil {
			test.Fatal(err)
		}
	}
	return out
}

// TestRelease builds one release in two places that differ in everything but the files' contents: the length of the path,
// the times of the files, the rights that a umask leaves them.
func TestRelease(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a release is not built on Windows: the hooks of .goreleaser.yaml call touch")
	}
	first := build(t, filepath.Join(t.TempDir(), "a"), 0o644)
	second := build(t, filepath.Join(t.TempDir(), "deeper", "still", "b"), 0o664)

	t.Run("reproducible", func(t *testing.T) { reproducible(t, first, second) })
	t.Run("manual", func(t *testing.T) { manual(t, first) })
	t.Run("completions", func(t *testing.T) { completions(t, first) })
	t.Run("units", func(t *testing.T) { units(t, first) })
	t.Run("deb", func(t *testing.T) { deb(t, first) })
}

// reproducible wants two builds to be the same, byte for byte, and free of their surroundings.
func reproducible(t *testing.T, first, second tree) {
	a, b := first.files(t), second.files(t)
	if len(a) < 10 {
		t.Fatalf("a release has %d files: these are not all", len(a))
	}
	for name := range b {
		if _, ok := a[name]; !ok {
			t.Errorf("%s is in one build and not in the other", name)
		}
	}
	for name, data := range a {
		if !bytes.Equal(data, b[name]) {
			t.Errorf("%s differs between two builds of one commit: %d and %d bytes", name, len(data), len(b[name]))
		}
	}
	binary, err := os.ReadFile(first.binary)
	if err != nil {
		t.Fatal(err)
	}
	goroot := strings.TrimSpace(output(t, "", nil, "go", "env", "GOROOT"))
	for _, path := range []string{first.dir, goroot} {
		if path != "" && bytes.Contains(binary, []byte(path+"/")) {
			t.Errorf("the binary names the directory %s in which it was built", path)
		}
	}
	// Both builds are of this machine, so a name that they share is no evidence: the rpm must bear the neutral one.
	header, err := os.ReadFile(first.rpm)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(header, []byte("localhost\x00")) {
		t.Error("the rpm names the machine that built it: its build host is not localhost")
	}
}

// build copies the checkout to dir, its files with the rights of mode, and builds the release for this machine there.
func build(t *testing.T, dir string, mode fs.FileMode) tree {
	t.Helper()
	at := now(t)
	nfpm := needTool(t, "nfpm", "run make tools")
	copyCheckout(t, dir, mode)
	r := readRecipe(t, at)

	// goreleaser's own builds do not ask the cache less than -trimpath does; without it, this would compile all anew.
	for _, hook := range r.Before.Hooks {
		output(t, dir, []string{"GOFLAGS=-trimpath"}, "sh", "-c", hook)
	}
	b := r.Builds[0]
	binary := filepath.Join(dir, "dist", b.Binary)
	arguments := append([]string{"build"}, b.Flags...)
	arguments = append(arguments, "-ldflags="+strings.Join(b.Ldflags, " "), "-o", binary, b.Main)
	output(t, dir, append([]string{"GOOS=linux", "GOARCH=" + runtime.GOARCH, "GOFLAGS="}, r.Env...), "go", arguments...)
	seconds, err := strconv.ParseInt(b.ModTimestamp, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	built := tree{dir: dir, binary: binary, commit: time.Unix(seconds, 0)}
	if err := os.Chtimes(binary, built.commit, built.commit); err != nil {
		t.Fatal(err)
	}

	config := filepath.Join(t.TempDir(), "nfpm.yaml")
	if err := os.WriteFile(config, packageOf(t, r.Nfpms[0], binary), 0o600); err != nil {
		t.Fatal(err)
	}
	for format, path := range map[string]*string{"deb": &built.deb, "rpm": &built.rpm, "apk": &built.apk} {
		*path = filepath.Join(dir, "dist", "cloudaudit."+format)
		output(t, dir, nil, nfpm, "package", "--config", config, "--packager", format, "--target", *path)
	}
	return built
}

// copyCheckout copies the files that git knows of, or would take, to dir.
func copyCheckout(t *testing.T, dir string, mode fs.FileMode) {
	t.Helper()
	for name := range strings.SplitSeq(git(t, "ls-files", "-z", "--cached", "--others", "--exclude-standard"), "\x00") {
		from, to := filepath.Join(root, name), filepath.Join(dir, name)
		info, err := os.Lstat(from)
		if name == "" || errors.Is(err, fs.ErrNotExist) { // deleted and not committed
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		if !info.Mode().IsRegular() {
			t.Fatalf("%s is not a regular file", name)
		}
		data, err := os.ReadFile(from)
		if errors.Is(err, fs.ErrNotExist) { // it was another test's
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, data, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(to, mode|info.Mode()&0o111); err != nil { // whatever the umask is
			t.Fatal(err)
		}
	}
}

// packageOf makes nfpm's configuration from goreleaser's, which is the same but for what it says of goreleaser's own
// affairs, and for the binary and the version, which goreleaser adds.
func packageOf(t *testing.T, goreleaser map[string]any, binary string) []byte {
	t.Helper()
	out := map[string]any{"name": goreleaser["package_name"], "version": version, "arch": runtime.GOARCH, "platform": "linux"}
	for key, value := range goreleaser {
		switch key {
		case "id", "package_name", "formats", "bindir":
		default:
			out[key] = value
		}
	}
	contents, ok := goreleaser["contents"].([]any)
	bin, isText := goreleaser["bindir"].(string)
	if !ok || !isText {
		t.Fatal(".goreleaser.yaml: nfpms needs contents and bindir")
	}
	out["contents"] = append(contents, map[string]any{
		"src": binary, "dst": bin + "/" + filepath.Base(binary),
		"file_info": map[string]any{"mode": 0o755, "mtime": goreleaser["mtime"]},
	})
	data, err := yaml.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
