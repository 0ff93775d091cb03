# Completion of slabctl(1) for bash.

# The names of the daemon's pools that begin with $1; the rest of the arguments
# go to slabctl. They come from outside, so no shell may ever expand them.
_slabctl_pools()
{
	local begin=$1 name
	shift
	slabctl "$@" -H pools 2>/dev/null | while read -r name _; do
		[[ $name == "$begin"* ]] && echo "$name"
	done
}

_slabctl()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	local commands='ping stats pools clients holders config version schema
		reload trim audit shutdown'
	local options='-s -H -h -V --socket --wait --no-header --help --version'
	local i command='' asked='' socket=()

	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		-s | --socket) socket=(-s "${COMP_WORDS[++i]}") ;;
		-w | --watch | --wait) ((i++)) ;;
		-*) ;;
		*) [[ $command ]] && asked=1 || command=${COMP_WORDS[i]} ;;
		esac
	done
	case $command in
	stats | pools | clients) options+=' --json --watch' ;;
	holders) options+=' --json --watch --verbose' ;;
	ping | config | version) options+=' --json' ;;
	shutdown) options+=' --force' ;;
	esac

	COMPREPLY=()
	case $prev:$cur:$command in
	-s:* | --socket:*)
		compopt -o filenames 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
	-w:* | --watch:* | --wait:*)
		;;
	*:-*:*)
		mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur") ;;
	*:)
		mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$cur") ;;
	*:stats | *:holders | *:trim)
		[[ $asked ]] || mapfile -t COMPREPLY < <(
			_slabctl_pools "$cur" "${socket[@]}") ;;
	esac
}
complete -F _slabctl slabctl
