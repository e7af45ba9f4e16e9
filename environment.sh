# Sourced by quickstart.sh and test.sh: `environment WHAT [REQUIREMENTS]` makes .venv and installs WHAT into it, once, and the
# packages that the file REQUIREMENTS lists, without what they depend on.

python() { # prints the first Python that is new enough
  local candidate
  for candidate in "${PYTHON:-}" python3 python python3.14 python3.13 python3.12 python3.11; do
    [ -n "$candidate" ] || continue
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  echo "genus: error: Python 3.11 or newer is needed; name one: PYTHON=/path/to/python $0" >&2
  return 1
}

environment() {
  local what=$1 alone=${2:-} mark=.venv/installed
  local wanted
  wanted="$what $(cat pyproject.toml constraints.txt $alone | cksum)"
  if [ -x .venv/bin/python ] && grep -qxF "$wanted" "$mark" 2>/dev/null; then
    return
  fi
  local found
  found=$(python)
  if [ ! -x .venv/bin/python ]; then
    echo "making .venv with $("$found" --version)" >&2
    "$found" -m venv .venv
  fi
  echo "installing $what with the tested versions (PyTorch is the large one: 1 to 2 minutes)" >&2
  # bytecode is made of what is imported, when it is: of all modules it would take half of the time
  local quiet=--quiet
  [ -t 2 ] && quiet=--progress-bar=on
  .venv/bin/python -m pip install $quiet --no-compile --disable-pip-version-check -c constraints.txt -e "$what" >&2
  if [ -n "$alone" ]; then
    .venv/bin/python -m pip install $quiet --no-compile --disable-pip-version-check --no-deps -r "$alone" >&2
  fi
  echo "$wanted" >>"$mark"
}
