#!/usr/bin/env bash
# What action.yml runs. Inputs come as INPUT_… in the environment and are never part of a command's text.
set -euo pipefail

fail() {
	# The text is ours but for one value, in which a line break or a percent sign would be a part of the command.
	local text=${1//'%'/%25}
	text=${text//$'\r'/%0D}
	printf '::error title=cloudaudit::%s\n' "${text//$'\n'/%0A}"
	exit 2
}

# choice NAME VALUE CHOICE...: the value has to be one of the choices.
choice() {
	local name=$1 value=$2 c
	shift 2
	for c in "$@"; do
		[ "$value" = "$c" ] && return
	done
	fail "input $name is '$value': want one of: $*"
}

output() {
	# A value with a line break would be another output; what is written here is a number, a word or a path of the workflow.
	case $2 in
	*$'\n'* | *$'\r'*) fail "input for $1 has a line break in it" ;;
	esac
	printf '%s=%s\n' "$1" "$2" >>"$GITHUB_OUTPUT"
}

choice install "$INPUT_INSTALL" source binary none
choice new-only "$INPUT_NEW_ONLY" true false
choice probe "$INPUT_PROBE" true false
choice fix "$INPUT_FIX" '' plan apply
choice summary "$INPUT_SUMMARY" true false
choice annotations "$INPUT_ANNOTATIONS" true false

if [ "${FROM_FORK:-}" = true ]; then
	# There are no credentials here, and there must not be any.
	echo '::notice title=cloudaudit::This pull request comes from a fork, which gets no credentials: nothing was audited.'
	exit 0
fi

work=$(mktemp -d "${RUNNER_TEMP:?}/cloudaudit.XXXXXX")
program=cloudaudit

# sum prints the SHA-256 of a file.
sum() {
	if command -v sha256sum >/dev/null; then
		sha256sum "$1"
	else
		shasum -a 256 "$1"
	fi | cut -d ' ' -f 1
}

# binary downloads the release whose digests stand in the action: what is on the release page is taken for nothing else.
binary() {
	local os arch file want url
	os=$(uname -s | tr '[:upper:]' '[:lower:]')
	case $(uname -m) in
	x86_64) arch=amd64 ;;
	aarch64 | arm64) arch=arm64 ;;
	*) fail "there is no release for $(uname -m): use install: source" ;;
	esac
	file=$(sed -n "s/^[0-9a-f]\{64\}  \(cloudaudit_.*_${os}_${arch}\.tar\.gz\)\$/\1/p" "$CLOUDAUDIT_ACTION/scripts/action-checksums.txt")
	[ -n "$file" ] || fail "this commit of the action has no digest of a release for $os/$arch: pin the action to a release, or use install: source"
	want=$(sed -n "s/^\([0-9a-f]\{64\}\)  $file\$/\1/p" "$CLOUDAUDIT_ACTION/scripts/action-checksums.txt")
	local version=${file#cloudaudit_}
	version=${version%"_${os}_${arch}.tar.gz"}
	url=$GITHUB_SERVER_URL/${ACTION_REPOSITORY:-$GITHUB_REPOSITORY}/releases/download/v$version/$file
	curl --fail --silent --show-error --location --retry 3 --output "$work/$file" "$url" || fail "the release could not be downloaded from $url"
	[ "$(sum "$work/$file")" = "$want" ] || fail "the digest of $file is not the one that the action has: it is not what was released"
	if command -v gh >/dev/null && [ -n "${GH_TOKEN:-}" ]; then
		gh attestation verify "$work/$file" --repo "${ACTION_REPOSITORY:-$GITHUB_REPOSITORY}" >&2 || fail "$file has no attestation of the release workflow"
	fi
	tar -xzf "$work/$file" -C "$work" cloudaudit
	program=$work/cloudaudit
}

case $INPUT_INSTALL in
source)
	command -v go >/dev/null || fail 'install: source needs Go: add actions/setup-go, or use install: binary'
	(cd "$CLOUDAUDIT_ACTION" && CGO_ENABLED=0 go build -trimpath -o "$work/cloudaudit" ./cmd/cloudaudit) || fail 'cloudaudit could not be built'
	program=$work/cloudaudit
	;;
binary) binary ;;
none) command -v cloudaudit >/dev/null || fail 'install: none needs cloudaudit on PATH' ;;
esac

# With "=" a value is a value, whatever it begins with.
args=(scan --format=text --color=never --progress=never --sarif-profile=github
	"--output=json=$INPUT_JSON_FILE" "--output=sarif=$INPUT_SARIF_FILE" "--output=markdown=$work/summary.md"
	"--port=$INPUT_PORT" "--fail-on=$INPUT_FAIL_ON")
[ -z "$INPUT_PROVIDER" ] || args+=("--provider=$INPUT_PROVIDER")
[ -z "$INPUT_CONFIG" ] || args+=("--config=$INPUT_CONFIG")
[ -z "$INPUT_BASELINE" ] || args+=("--baseline=$INPUT_BASELINE")
[ "$INPUT_NEW_ONLY" = false ] || args+=(--new-only)
[ "$INPUT_PROBE" = false ] || args+=(--probe)
case $INPUT_FIX in
plan) args+=(--fix --dry-run "--plan=$INPUT_PLAN_FILE") ;;
apply)
	args+=(--fix --yes "--journal=$INPUT_JOURNAL_FILE")
	[ ! -e "$INPUT_PLAN_FILE" ] || args+=("--plan=$INPUT_PLAN_FILE")
	;;
esac
while IFS= read -r line; do
	line=${line%$'\r'}
	[ -z "$line" ] || args+=("$line")
done <<<"$INPUT_ARGS"
rm -f -- "$INPUT_JSON_FILE" "$INPUT_SARIF_FILE" # so that no report of an earlier step is taken for this one's

# What the program prints holds names from the clouds: until it is over, nothing in it is a command to the runner.
token=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
printf '::stop-commands::%s\n' "$token"
status=0
"$program" "${args[@]}" || status=$?
printf '::%s::\n' "$token"

output exit-code "$status"
for name in json sarif plan journal; do
	case $name in
	json) path=$INPUT_JSON_FILE ;;
	sarif) path=$INPUT_SARIF_FILE ;;
	plan) path=$INPUT_PLAN_FILE ;;
	journal) path=$INPUT_JOURNAL_FILE ;;
	esac
	case $name:$INPUT_FIX in
	plan:plan | plan:apply | journal:apply | json:* | sarif:*) [ ! -e "$path" ] || output "$name-file" "$path" ;;
	esac
done
if [ -e "$INPUT_JSON_FILE" ]; then
	report=(github "$INPUT_JSON_FILE" "--outputs=$GITHUB_OUTPUT")
	[ "$INPUT_ANNOTATIONS" = true ] || report+=(--annotations=false)
	"$program" "${report[@]}"
fi
if [ "$INPUT_SUMMARY" = true ] && [ -e "$work/summary.md" ]; then
	cat "$work/summary.md" >>"$GITHUB_STEP_SUMMARY"
fi
exit "$status"
