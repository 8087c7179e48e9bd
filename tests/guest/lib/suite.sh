# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# Packages of another suite of Debian than the machine's, without a change to the machine: apt
# with sources, lists and downloads of its own in a folder.  Needs no root.  Where packages
# come from is taken from the machine's own sources, so that no host is named here.

# The repository of the machine's own Debian suite: "URI ARCHITECTURE", or return 1.
suite_repository()
{
	local codename

	# shellcheck source=/dev/null
	codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
	[ -n "$codename" ] && command -v apt-get >/dev/null || return 1
	# shellcheck disable=SC2016 # apt fills these in
	# The first answer; the whole output is read, as apt-get minds a closed pipe.
	apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI) $(ARCHITECTURE)' \
		'Created-By: Packages' 2>/dev/null |
		awk -v suite="$codename" '$1 == suite && $2 == "main" && !n++ { print $3, $4 }
			END { exit !n }'
}

# suite_prepare DIR SUITE... [-- OPTION...]: sets suite_apt, a command to be used in place of
# apt-get, which knows the machine's own suite and these, binary and source.  The options are
# apt's.
suite_prepare()
{
	local dir=$1 repository uri name codename suites=()
	shift
	while [ $# -gt 0 ] && [ "$1" != -- ]; do
		suites+=("$1")
		shift
	done
	[ $# -eq 0 ] || shift

	repository=$(suite_repository) || {
		echo 'no Debian repository among the sources of apt' >&2
		return 1
	}
	uri=${repository% *}
	# shellcheck source=/dev/null
	codename=$(. /etc/os-release && printf '%s' "$VERSION_CODENAME")
	mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/sources"
	for name in "$codename" "${suites[@]}"; do
		printf 'deb %s %s main\ndeb-src %s %s main\n' "$uri" "$name" "$uri" "$name"
	done >"$dir/sources/all.list"
	suite_apt=(apt-get -q -y -o Dir::Etc::sourcelist=/dev/null
		-o "Dir::Etc::sourceparts=$dir/sources" -o "Dir::State::lists=$dir/lists"
		-o "Dir::Cache=$dir/cache" -o Debug::NoLocking=1 -o APT::Sandbox::User=root
		-o Acquire::Retries=1 -o Acquire::http::Timeout=15 -o Acquire::https::Timeout=15
		"$@")
	"${suite_apt[@]}" update </dev/null >"$dir/update.log" 2>&1 || {
		tail -n 5 "$dir/update.log" >&2
		return 1
	}
}
