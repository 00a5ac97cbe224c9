package release

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// deb looks into the package, and installs and removes it: in a directory with a stand-in for systemctl, and in CI, where
// the machine is thrown away afterwards, as an administrator would.
func deb(t *testing.T, built tree) {
	needTool(t, "dpkg", "the package is installed on Debian and its like")
	t.Run("content", func(t *testing.T) { content(t, built) })
	t.Run("in a directory", func(t *testing.T) { installApart(t, built) })
	t.Run("on this machine", func(t *testing.T) {
		if os.Getenv("CI") != "true" {
			t.Skip("nothing is installed on a machine that is not CI's")
		}
		if os.Getuid() != 0 {
			t.Fatal("CI has to run as root to install the package")
		}
		if _, err := os.Stat("/usr/bin/cloudaudit"); err == nil {
			t.Fatal("cloudaudit is installed here already: dpkg --purge cloudaudit")
		}
		install(t, built, place{dir: "/", command: []string{"dpkg"}})
	})
}

// content wants the package to carry these files and no others, with these rights, of root and of the commit's time.
func content(t *testing.T, built tree) {
	want := map[string]fs.FileMode{
		"usr/bin/cloudaudit":                                  0o755,
		"etc/cloudaudit/cloudaudit.env":                       0o600,
		"usr/lib/systemd/system/cloudaudit.service":           0o644,
		"usr/lib/systemd/system/cloudaudit.timer":             0o644,
		"usr/share/bash-completion/completions/cloudaudit":    0o644,
		"usr/share/zsh/vendor-completions/_cloudaudit":        0o644,
		"usr/share/fish/vendor_completions.d/cloudaudit.fish": 0o644,
		"usr/share/doc/cloudaudit/copyright":                  0o644,
		"usr/share/doc/cloudaudit/CHANGELOG.md":               0o644,
	}
	for from, to := range map[string]string{".release/man": "usr/share/man/man1", "deploy/iam": "usr/share/doc/cloudaudit/iam"} {
		entries, err := os.ReadDir(filepath.Join(built.dir, from))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			want[to+"/"+e.Name()] = 0o644
		}
	}
	got := map[string]fs.FileMode{}
	for r := tar.NewReader(strings.NewReader(output(t, "", nil, "dpkg-deb", "--fsys-tarfile", built.deb))); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if h.Uname != "root" || h.Gname != "root" || !h.ModTime.Equal(built.commit) {
			t.Errorf("%s is of %s:%s and of %s", h.Name, h.Uname, h.Gname, h.ModTime)
		}
		if h.Typeflag == tar.TypeDir && h.FileInfo().Mode().Perm() != 0o755 {
			t.Errorf("%s has mode %s", h.Name, h.FileInfo().Mode())
		}
		if h.Typeflag != tar.TypeDir {
			got[strings.TrimPrefix(h.Name, "./")] = h.FileInfo().Mode()
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files of the package (-want +got):\n%s", diff)
	}

	if conf := output(t, "", nil, "dpkg-deb", "--info", built.deb, "conffiles"); strings.TrimSpace(conf) != "/etc/cloudaudit/cloudaudit.env" {
		t.Errorf("files that an administrator may change: %q", conf)
	}
	fields := "Package: cloudaudit\nVersion: " + version + "\nArchitecture: " + runtime.GOARCH + "\nRecommends: ca-certificates\n"
	if got := output(t, "", nil, "dpkg-deb", "--field", built.deb, "Package", "Version", "Architecture", "Depends", "Recommends"); got != fields {
		t.Errorf("fields of the package:\n%s\nwant\n%s", got, fields)
	}
	// It depends on no package because it depends on no library.
	f, err := elf.Open(built.binary)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if libraries, err := f.ImportedLibraries(); err != nil || len(libraries) > 0 || f.Section(".interp") != nil {
		t.Errorf("the binary needs libraries: %v %v", libraries, err)
	}
}

// place is where a package is installed, and dpkg with the arguments that make it install there.
type place struct {
	dir     string
	command []string
	env     []string
}

func (p place) dpkg(t *testing.T, arguments ...string) {
	t.Helper()
	out := output(t, "", p.env, p.command[0], append(p.command[1:], arguments...)...)
	// What is an administrator's, or systemd's, in a directory keeps the directory, as it should; what is left of the package is
	// looked at apart.
	kept := regexp.MustCompile(`dpkg: warning: while removing cloudaudit, directory '[^']*' not empty so not removed`)
	if strings.Contains(kept.ReplaceAllString(out, ""), "warning") {
		t.Errorf("dpkg %q has something to say:\n%s", arguments, out)
	}
}

// path returns where a path of the package is in p.
func (p place) path(name string) string { return filepath.Join(p.dir, name) }

// installApart installs in a directory that looks as if systemd ran there, and hears what it is asked.
func installApart(t *testing.T, built tree) {
	dir := t.TempDir()
	for _, name := range []string{"var/lib/dpkg/updates", "var/lib/dpkg/info", "run/systemd/system"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, "var/lib/dpkg/status"), "", 0o644)
	asked := filepath.Join(dir, "asked")
	write(t, filepath.Join(dir, "stand-in/systemctl"), "#!/bin/sh\necho \"$*\" >>'"+asked+"'\n", 0o755)
	p := place{
		dir: dir,
		env: []string{"PATH=" + filepath.Join(dir, "stand-in") + ":" + os.Getenv("PATH") + ":/usr/sbin:/sbin"},
		command: []string{
			"dpkg", "--root=" + dir, "--log=" + filepath.Join(dir, "dpkg.log"),
			"--force-script-chrootless", "--force-not-root",
		},
	}
	if os.Getuid() != 0 {
		unshare := needTool(t, "unshare", "apt-get install util-linux")
		if out, err := exec.Command(unshare, "--map-root-user", "true").CombinedOutput(); err != nil {
			lack(t, "a package is installed as root, or as root of a user namespace: "+err.Error()+"\n"+string(out))
		}
		p.command = append([]string{unshare, "--map-root-user"}, p.command...)
	}
	heard := func(when string, want ...string) {
		t.Helper()
		data, err := os.ReadFile(asked)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if got := strings.Split(strings.TrimSpace(string(data)), "\n"); !slices.Equal(got, want) {
			t.Errorf("%s asks systemd for %q, want %q", when, got, want)
		}
		if err := os.Remove(asked); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}

	p.dpkg(t, "--install", built.deb)
	heard("installing", "daemon-reload")
	t.Run("installed", func(t *testing.T) { installed(t, p) })

	// An administrator makes it his own; another version leaves that alone, and stops nothing.
	output(t, "", nil, needTool(t, "systemctl", "apt-get install systemd"), "--root="+dir, "enable", "--quiet", "cloudaudit.timer")
	write(t, p.path("etc/cloudaudit/cloudaudit.env"), "CLOUDAUDIT_PROVIDER=do\n", 0o600)
	write(t, p.path("var/lib/private/cloudaudit/latest.json"), "{}", 0o600)
	mine := []string{
		"etc/cloudaudit", "etc/cloudaudit/cloudaudit.env", "etc/systemd/system/timers.target.wants/cloudaudit.timer",
		"var/lib/private/cloudaudit", "var/lib/private/cloudaudit/latest.json",
	}
	kept := func(when string) {
		t.Helper()
		for _, name := range mine {
			if _, err := os.Lstat(p.path(name)); err != nil {
				t.Errorf("%s: %v", when, err)
			}
		}
		if data, _ := os.ReadFile(p.path("etc/cloudaudit/cloudaudit.env")); string(data) != "CLOUDAUDIT_PROVIDER=do\n" {
			t.Errorf("%s: the environment file is %q", when, data)
		}
	}
	p.dpkg(t, "--install", built.deb)
	heard("upgrading", "daemon-reload", "daemon-reload")
	kept("upgraded")

	p.dpkg(t, "--remove", "cloudaudit")
	heard("removing", "--quiet disable --now cloudaudit.timer", "--quiet stop cloudaudit.service", "daemon-reload")
	kept("removed")
	if left := remaining(t, p); !slices.Equal(left, mine) {
		t.Errorf("removed, and there remain %q, want %q", left, mine)
	}
	p.dpkg(t, "--purge", "cloudaudit")
	heard("purging", "daemon-reload")
	if left := remaining(t, p); len(left) > 0 {
		t.Errorf("purged, and there remain %q", left)
	}

	// An rpm's scripts are told how many versions stay.
	script := filepath.Join(built.dir, "deploy/package/preremove.sh")
	env := append([]string{"DPKG_ROOT=" + dir}, p.env...)
	output(t, "", env, script, "1")
	heard("replacing an rpm", "")
	output(t, "", env, script, "0")
	heard("removing an rpm", "--quiet disable --now cloudaudit.timer", "--quiet stop cloudaudit.service")
}

// install installs in p, looks at what is there then, and purges.
func install(t *testing.T, built tree, p place) {
	t.Cleanup(func() {
		if _, err := os.Stat(p.path("usr/bin/cloudaudit")); err == nil {
			p.dpkg(t, "--purge", "cloudaudit")
		}
	})
	p.dpkg(t, "--install", built.deb)
	installed(t, p)
	p.dpkg(t, "--remove", "cloudaudit")
	if left := remaining(t, p); !slices.Equal(left, []string{"etc/cloudaudit", "etc/cloudaudit/cloudaudit.env"}) {
		t.Errorf("removed, and there remain %q", left)
	}
	p.dpkg(t, "--purge", "cloudaudit")
	if left := remaining(t, p); len(left) > 0 {
		t.Errorf("purged, and there remain %q", left)
	}
}

// installed looks at a package that has just been installed: it works, and nothing of it is enabled or running.
func installed(t *testing.T, p place) {
	command := p.path("usr/bin/cloudaudit")
	env := []string{"HOME=" + t.TempDir()}
	if got, want := output(t, t.TempDir(), env, command, "version"), "cloudaudit v"+version+" ("; !strings.HasPrefix(got, want) {
		t.Errorf("version: %q, want %q", got, want)
	}
	demo := exec.Command(command, "demo")
	demo.Dir, demo.Env = t.TempDir(), append(os.Environ(), env...)
	var stdout, stderr bytes.Buffer
	demo.Stdout, demo.Stderr = &stdout, &stderr
	err := demo.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(stdout.String(), "11211") {
		t.Errorf("demo: %v, want exit status 1, findings\n%s%s", err, &stdout, &stderr)
	}

	info, err := os.Stat(p.path("etc/cloudaudit/cloudaudit.env"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the file for credentials has mode %s", info.Mode())
	}
	for _, dir := range []string{"etc/systemd", "run/systemd/system", "run/systemd/transient", "var/lib/cloudaudit", "var/lib/private"} {
		for _, name := range below(t, p, dir) {
			if strings.Contains(name, "cloudaudit") {
				t.Errorf("installing has left %s", name)
			}
		}
	}
	systemctl := needTool(t, "systemctl", "apt-get install systemd")
	state, err := exec.Command(systemctl, "--root="+p.dir, "is-enabled", "cloudaudit.timer").Output()
	if strings.TrimSpace(string(state)) != "disabled" || !errors.As(err, &exit) {
		t.Errorf("the timer is %q: %v", state, err)
	}
	if _, err := os.Stat("/run/systemd/system"); p.dir == "/" && err == nil {
		for _, unit := range []string{"cloudaudit.timer", "cloudaudit.service"} {
			if state, _ := exec.Command(systemctl, "is-active", unit).Output(); strings.TrimSpace(string(state)) != "inactive" {
				t.Errorf("%s is %q", unit, state)
			}
		}
	}
	verifyUnits(t, p.dir)
}

// remaining returns what there is of the package in p beside dpkg's own records, sorted.
func remaining(t *testing.T, p place) []string {
	t.Helper()
	found := map[string]bool{}
	for _, dir := range []string{"etc", "usr/bin", "usr/lib/systemd", "usr/share", "var/lib/private", "var/lib/cloudaudit"} {
		for _, name := range below(t, p, dir) {
			if strings.Contains(name, "cloudaudit") {
				found[name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// below returns all paths below dir in p.
func below(t *testing.T, p place, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(p.path(dir), func(path string, _ fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return nil
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(p.dir, path)
		out = append(out, filepath.ToSlash(name))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// write writes a file and the directories that it needs.
func write(t *testing.T, path, text string, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}
