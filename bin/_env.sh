# shellcheck shell=bash
# What bin/quickstart, bin/test, .ci/run and bench/run share: a checkout that can run
# Ansible and the local cloud on a bare Debian, and steps that show how far they are.
# Sourced, never run.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=$ROOT/.venv
# shellcheck disable=SC2034  # bin/test uses it
CLOUDS_HOME=${LOCALCLOUD_HOME:-/var/lib/mlflow-aws-localcloud}
LOG_DIR=${LOG_DIR:-$ROOT/.quickstart/log}
OS_RELEASE=${OS_RELEASE:-/etc/os-release}
PROGRAM=$(basename "$0")

# Debian packages of the host; machines and databases bring their own.
# shellcheck disable=SC2034  # used by those who source this
HOST_PACKAGES=(
  ca-certificates curl dnsmasq-base iproute2 mmdebstrap nftables
  openssh-client openssl systemd-container
)

if [[ -t 1 ]]; then
  __bold=$'\e[1m' __dim=$'\e[2m' __red=$'\e[31m' __off=$'\e[0m' __clear=$'\r\e[K'
else
  __bold='' __dim='' __red='' __off='' __clear=''
fi

say() { printf '%s\n' "$*"; }

die() {
  printf '%s%s:%s %s\n' "$__red" "$PROGRAM" "$__off" "$*" >&2
  exit 1
}

# --- steps ------------------------------------------------------------------

__child=''

# A command that runs in the background does not see Ctrl-C: hand it on.
__stop_child() {
  if [[ -n $__child ]]; then
    kill -TERM -- "-$__child" 2>/dev/null || true
    wait "$__child" 2>/dev/null || true
    __child=''
  fi
}
trap '__stop_child; printf "%s%s: stopped\n" "$__clear" "$PROGRAM" >&2; exit 130' INT TERM

# What the command is at: the task for Ansible, else its last line.
__activity() {
  local line
  line=$(tail -n 60 "$1" 2>/dev/null | grep -aoE '^TASK \[[^]]+\]' | tail -n 1 | sed -E 's/^TASK \[(.*)\]$/\1/')
  if [[ -z $line ]]; then
    line=$(tail -n 20 "$1" 2>/dev/null | tr '\r' '\n' | grep -av '^[[:space:]]*$' | tail -n 1)
  fi
  line=${line//$'\e'/}
  printf '%.70s' "$line"
}

# run TITLE LOG COMMAND…
# Runs the command with its output in LOG_DIR/LOG.log and shows TITLE, the seconds that
# have passed and what the command is at. A command that fails shows the log's end.
run() {
  local title=$1 log=$LOG_DIR/$2.log begin=$SECONDS rc=0 shown=0 took
  shift 2
  mkdir -p "$LOG_DIR"
  [[ -t 1 ]] || say "$title …"
  # Its own process group, so that all of it can be stopped. Without the lock of descriptor
  # 9, which what the command leaves running would hold for ever.
  setsid "$@" >"$log" 2>&1 </dev/null 9>&- &
  __child=$!
  while kill -0 "$__child" 2>/dev/null; do
    took=$((SECONDS - begin))
    if [[ -t 1 ]]; then
      printf '%s%s … %s%d s  %s%s' "$__clear" "$title" "$__dim" "$took" "$(__activity "$log")" "$__off"
    elif ((took >= shown + 20)); then
      shown=$took
      printf '  %4d s  %s\n' "$took" "$(__activity "$log")"
    fi
    sleep 0.2
  done
  wait "$__child" || rc=$?
  __child=''
  took=$((SECONDS - begin))
  if ((rc == 0)); then
    if [[ -t 1 ]]; then
      printf '%s%s: done in %d s\n' "$__clear" "$title" "$took"
    else
      printf '  done in %d s\n' "$took"
    fi
    return 0
  fi
  printf '%s%s: %sfailed%s after %d s (exit code %d). The end of %s:\n\n' \
    "$__clear" "$title" "$__red" "$__off" "$took" "$rc" "$log" >&2
  tail -n 60 "$log" | sed 's/^/    /' >&2
  printf '\n' >&2
  return "$rc"
}

# --- the machine ------------------------------------------------------------

need_debian() {
  local id='' version='' name=''
  if [[ -r $OS_RELEASE ]]; then
    id=$(. "$OS_RELEASE" && printf '%s' "${ID:-}")
    version=$(. "$OS_RELEASE" && printf '%s' "${VERSION_ID:-}")
    name=$(. "$OS_RELEASE" && printf '%s' "${PRETTY_NAME:-$ID}")
  fi
  case $id-$version in
    debian-12 | debian-13) ;;
    *) die "the local cloud runs on Debian 12 and 13; this is ${name:-unknown ($OS_RELEASE cannot be read)}. On AWS nothing of it is needed: see 'On AWS' in README.md." ;;
  esac
}

need_root() {
  if ((EUID != 0)); then
    die "needs root: the local cloud makes machines, network namespaces and firewall rules. Type: sudo bin/$PROGRAM $*"
  fi
}

# install_packages PACKAGE…: those of them that are missing. apt-get update runs only then.
install_packages() {
  local missing=() package
  for package in "$@"; do
    if [[ $(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null) != ii* ]]; then
      missing+=("$package")
    fi
  done
  if ((${#missing[@]} == 0)); then
    return 0
  fi
  run "Package lists" apt-update apt-get update -q
  run "Debian packages: ${missing[*]}" apt-install \
    env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
}

# --- the checkout -----------------------------------------------------------

__python_ok() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

# A Python 3.11 to 3.13 that can make a venv, from the machine or from Debian.
find_python() {
  PYTHON=$(command -v python3 || true)
  if [[ -z $PYTHON ]] || ! __python_ok "$PYTHON"; then
    install_packages python3 python3-venv
    PYTHON=/usr/bin/python3
  elif ! "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null; then
    install_packages python3-venv
  fi
  __python_ok "$PYTHON" || die "$PYTHON is $("$PYTHON" -V 2>&1); Python 3.11, 3.12 or 3.13 is needed."
}

# pip's setting NAME, from its files or its environment; nothing where it has none.
__pip_setting() {
  "$VENV/bin/python" -m pip config get "global.$1" 2>/dev/null ||
    "$VENV/bin/python" -m pip config get ":env:.$1" 2>/dev/null || true
}

# uv reads no pip.conf: hand on the index and the certificates that the machine's pip uses.
__uv_settings() {
  local certificates index
  certificates=$(__pip_setting cert)
  index=$(__pip_setting index-url)
  if [[ -n ${SSL_CERT_FILE:-$certificates} ]]; then
    export SSL_CERT_FILE=${SSL_CERT_FILE:-$certificates}
  fi
  # The system's certificates, as pip and curl take them. The older name is for older uv.
  export UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS:-true} UV_NATIVE_TLS=${UV_NATIVE_TLS:-true}
  if [[ -n $index ]]; then
    export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}
  fi
  # The venv and uv's cache may lie on different disks; to copy is fine then, and no news.
  if [[ $(stat -c %d "$ROOT") != $(stat -c %d "${UV_CACHE_DIR:-${HOME:-/root}}") ]]; then
    export UV_LINK_MODE=${UV_LINK_MODE:-copy}
  fi
}

# python_environment SET FILE…: .venv with what these requirement files name, and the
# collections of requirements.yml. Done once per SET, and again when a file has changed.
python_environment() {
  local set=$1 state file arguments=()
  shift
  for file in "$@"; do
    arguments+=(-r "$ROOT/$file")
  done
  link_collection
  use_environment
  state=$(cat requirements*.txt requirements.yml localcloud/requirements.txt bin/_collections.py \
    <("$PYTHON" -V) | sha256sum | cut -c 1-16)
  if "$VENV/bin/python" -c '' 2>/dev/null; then
    if [[ -f $VENV/.ready-$state-$set ]]; then
      return 0
    fi
  else
    rm -rf "$VENV"
    run "Python environment in .venv" venv "$PYTHON" -m venv "$VENV"
  fi
  __uv_settings
  if [[ ! -x $VENV/bin/uv ]]; then
    run "uv, which installs Python packages" uv \
      "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check uv
  fi
  run "Python packages of $*" "python-packages-$set" \
    "$VENV/bin/uv" pip install --python "$VENV/bin/python" "${arguments[@]}"
  run "Ansible collections of requirements.yml" collections \
    "$VENV/bin/python" "$ROOT/bin/_collections.py" "$ROOT/requirements.yml" "$ROOT/.ansible/collections"
  find "$VENV" -maxdepth 1 -name '.ready-*' ! -name ".ready-$state-*" -delete
  : >"$VENV/.ready-$state-$set"
}

# Ansible finds a collection by its folders' names: .ansible/…/mlops/mlflow_aws is this checkout.
link_collection() {
  mkdir -p "$ROOT/.ansible/collections/ansible_collections/mlops"
  ln -sfnr "$ROOT" "$ROOT/.ansible/collections/ansible_collections/mlops/mlflow_aws"
}

use_environment() {
  cd "$ROOT" || exit 1
  export PATH=$VENV/bin:$PATH
  export VIRTUAL_ENV=$VENV
  export ANSIBLE_COLLECTIONS_PATH=$ROOT/.ansible/collections
  # Without bytecode every task compiles its modules anew: half of Ansible's time.
  unset ANSIBLE_CONFIG PYTHONDONTWRITEBYTECODE
}
