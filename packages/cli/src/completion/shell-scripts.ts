// What `ring3 completion SHELL` prints: for each shell the few lines that ask `ring3 completion words` at each Tab.

/**
 * bash cuts words at `:` and `=` too and puts the offer behind the last cut, so what stands before it is taken off. The
 * line is split anew for that, by blanks alone.
 */
const bash = `# Completion of ring3 for bash: eval "$(ring3 completion bash)", or save it as ring3 in ~/.local/share/bash-completion/completions
_ring3() {
  local line=\${COMP_LINE:0:COMP_POINT} word cut=""
  local -a words offers
  read -ra words <<< "$line"
  [[ $line == *[[:space:]] ]] && words+=("")
  local current=\${words[\${#words[@]}-1]}
  mapfile -t offers < <("\${words[0]}" completion words -- "\${words[@]:1}" 2> /dev/null)
  case $COMP_WORDBREAKS in
    *:*=* | *=*:*) cut=\${current%"\${current##*[:=]}"} ;;
    *:*) cut=\${current%"\${current##*:}"} ;;
    *=*) cut=\${current%"\${current##*=}"} ;;
  esac
  COMPREPLY=()
  for word in "\${offers[@]}"; do
    word=\${word%%$'\\t'*}
    COMPREPLY+=("\${word:\${#cut}}")
  done
  if [[ \${#COMPREPLY[@]} -eq 1 && \${COMPREPLY[0]} == *[/:.+] ]]; then compopt -o nospace 2> /dev/null; fi
}
complete -F _ring3 ring3
`;

const zsh = `#compdef ring3
# Completion of ring3 for zsh: source <(ring3 completion zsh), or save it as _ring3 in a directory of $fpath
_ring3() {
  local line word text
  local -a closed closed_texts open open_texts
  for line in "\${(@f)$("\${words[1]}" completion words -- "\${(@)words[2,CURRENT]}" 2> /dev/null)}"; do
    [[ -n $line ]] || continue
    word=\${line%%$'\\t'*}
    text=\${line#*$'\\t'}
    [[ $text == $line ]] && text=$word || text="$word -- $text"
    if [[ $word == *[/:.+] ]]; then open+=("$word"); open_texts+=("$text"); else closed+=("$word"); closed_texts+=("$text"); fi
  done
  (( $#closed )) && compadd -l -d closed_texts -a closed
  (( $#open )) && compadd -l -S '' -d open_texts -a open
  return 0
}
if [[ $funcstack[1] == _ring3 ]]; then _ring3 "$@"; else compdef _ring3 ring3; fi
`;

const fish = `# Completion of ring3 for fish: ring3 completion fish | source, or save it as ~/.config/fish/completions/ring3.fish
complete -c ring3 -f -a '(set -l words (commandline -opc) (commandline -ct); $words[1] completion words -- $words[2..] 2>/dev/null)'
`;

export const SHELL_SCRIPTS: Readonly<Record<string, string>> = { bash, zsh, fish };
