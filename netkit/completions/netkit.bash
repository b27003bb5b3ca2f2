# Completion of netkit for bash.

# Options: the COMMANDS that have them, the KIND of their values (empty: they have none), and their NAMEs.
_netkit_option() {
    [[ " $1 " == *" $command "* ]] || return 0
    options+=("${@:3}")
    [[ " ${*:3} " == *" $prev "* ]] && kind=$2
    return 0
}

# What stands for words: the COMMANDS that take them, and their KIND.
_netkit_words() {
    [[ " $1 " == *" $command "* ]] && words_kind=$2
    return 0
}

# Names in /etc/hosts, and in known_hosts where they are not hashed. What no name has could be run by the shell.
_netkit_hosts() {
    local file line name
    local -a fields
    for file in /etc/hosts /etc/ssh/ssh_known_hosts ~/.ssh/known_hosts; do
        [[ -r $file ]] || continue
        while read -r line || [[ $line ]]; do
            read -ra fields <<<"${line%%#*}"
            [[ ${fields[0]} == @* ]] && fields=("${fields[@]:1}")
            if [[ $file == /etc/hosts ]]; then
                fields=("${fields[@]:1}")
            else
                IFS=, read -ra fields <<<"${fields[0]}"
            fi
            for name in "${fields[@]}"; do
                name=${name#[}
                name=${name%%]*}
                [[ $name == *[![:alnum:]._:%-]* || $name == -* ]] || hosts+=("$name")
            done
        done <"$file"
    done
}

# Adds what begins with CUR to the answer: each with LEAD in front.
_netkit_find() { # LEAD CUR, and what compgen is told
    local each
    while read -r each; do
        found+=("$each")
    done < <(compgen -P "$1" "${@:3}" -- "$2")
}

# The same for WORDs, each with TAIL behind; compgen -W would run what is in them.
_netkit_among() { # LEAD CUR TAIL WORD...
    local each
    for each in "${@:4}"; do
        [[ $each == "$2"* ]] && found+=("$1$each$3")
    done
    return 0
}

_netkit_address() {
    local rest=$cur lead=$1
    local -a hosts
    [[ $rest == tls:* || $rest == udp:* ]] && lead+=${rest:0:4} rest=${rest:4}
    case $rest in
    unix:*)
        compopt -o filenames 2>/dev/null
        _netkit_find "${lead}unix:" "${rest#unix:}" -f
        ;;
    \[*\]:* | *:*)
        [[ $rest == *:*:* && $rest != \[* ]] && return
        _netkit_find "$lead${rest%:*}:" "${rest##*:}" -A service
        ;;
    *)
        _netkit_hosts
        _netkit_among "$lead" "$rest" : "${hosts[@]}" unix tls udp
        compopt -o nospace 2>/dev/null
        ;;
    esac
}

_netkit_kind() { # KIND LEAD
    local -a hosts words
    case $1 in
    file)
        compopt -o filenames 2>/dev/null
        _netkit_find "$2" "$cur" -f
        ;;
    command) _netkit_find "$2" "$cur" -c ;;
    host)
        _netkit_hosts
        _netkit_among "$2" "$cur" "" "${hosts[@]}"
        ;;
    address) _netkit_address "$2" ;;
    service) _netkit_find "$2" "$cur" -A service ;;
    interface)
        words=(/sys/class/net/*)
        _netkit_among "$2" "$cur" "" "${words[@]##*/}"
        ;;
    "one of "*)
        read -ra words <<<"${1#one of }"
        _netkit_among "$2" "$cur" "" "${words[@]}"
        ;;
    "begins with "*)
        read -ra words <<<"${1#begins with }"
        _netkit_among "$2" "$cur" "" "${words[@]}"
        compopt -o nospace 2>/dev/null
        ;;
    esac
}

_netkit() {
    # The words between blanks: bash's own are cut at each character of COMP_WORDBREAKS, such as ":".
    local line=${COMP_LINE:0:COMP_POINT} command= prev= kind=any words_kind= lead= cut= char= before i=0 last
    local -a words found options
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    last=$((${#words[@]} - 1))
    local cur=${words[last]}
    COMPREPLY=()

    while ((i < last)) && [[ ${words[i]} != "$1" ]]; do ((i += 1)); done
    ((i += 1))
    while ((i < last)) && [[ ${words[i]} =~ ^(-[vq]+|--verbose|--quiet|--json)$ ]]; do ((i += 1)); done

    if ((i >= last)); then
        read -ra options <<<"$_netkit_commands"
        _netkit_among "" "$cur" "" "${options[@]}" -h -v -q --help --version --verbose --quiet --json
    elif [[ " ${words[*]:i+1:last-i-1} " == *" -- "* ]]; then
        before=${words[last - 1]}
        [[ $before == -- ]] && kind=command || kind=file
        _netkit_kind "$kind" ""
    else
        command=${words[i]}
        before=${words[last - 1]}
        prev=$before
        [[ $cur == --*=* ]] && lead=${cur%%=*}= prev=${cur%%=*} cur=${cur#*=}
        kind=
        _netkit_table
        if [[ $kind ]]; then
            _netkit_kind "$kind" "$lead"
        elif [[ $cur == -* ]]; then
            _netkit_among "" "$cur" "" "${options[@]}"
        else
            prev=${words[last - 2]}
            _netkit_table # for whether the word before is the value of an option, and no host
            [[ $words_kind == address && ! $kind && $before != -* && $before != *:* && $before == *[!0-9]* ]] &&
                ((i < last - 1)) && words_kind=service
            _netkit_kind "$words_kind" ""
        fi
    fi

    for char in : = @; do
        before=${words[last]}
        [[ $COMP_WORDBREAKS == *"$char"* && $before == *"$char"* ]] || continue
        before=${before%"${before##*"$char"}"}
        ((${#before} > ${#cut})) && cut=$before
    done
    COMPREPLY=("${found[@]#"$cut"}")
}

# -- written by python -m netkit.cli.man
_netkit_commands='address completion connect echo fetch free-port help listen pack portcheck proxy relay resolve services sockets udp-send udp-serve unpack upper'
_netkit_table() {
    _netkit_words address 'host'
    _netkit_words completion 'one of bash zsh fish'
    _netkit_words connect 'address'
    _netkit_words echo 'address'
    _netkit_words fetch 'begins with http:// https://'
    _netkit_words help 'one of address completion connect echo fetch free-port help listen pack portcheck proxy relay resolve services sockets udp-send udp-serve unpack upper addresses ending exit-codes proxies values'
    _netkit_words listen 'address'
    _netkit_words portcheck 'address'
    _netkit_words proxy 'address'
    _netkit_words relay 'address'
    _netkit_words resolve 'host'
    _netkit_words services 'service'
    _netkit_words udp-send 'address'
    _netkit_words udp-serve 'address'
    _netkit_words upper 'address'
    _netkit_option 'address' '' --endpoint
    _netkit_option 'address free-port services sockets' '' --json
    _netkit_option 'address completion connect echo fetch free-port help listen pack portcheck proxy relay resolve services sockets udp-send udp-serve unpack upper' '' -h --help
    _netkit_option 'connect echo fetch listen portcheck proxy relay resolve sockets udp-send udp-serve upper' '' -4 -6
    _netkit_option 'connect echo fetch listen portcheck proxy relay udp-send udp-serve upper' '' -n --numeric
    _netkit_option 'connect fetch relay' 'any' -w --connect-timeout
    _netkit_option 'connect fetch proxy relay' 'any' --source
    _netkit_option 'connect fetch proxy relay' 'interface' --interface
    _netkit_option 'connect fetch' 'any' --keepalive
    _netkit_option 'connect echo listen portcheck proxy resolve upper' '' --tls
    _netkit_option 'connect fetch portcheck relay resolve' 'file' --cafile
    _netkit_option 'connect echo fetch listen portcheck proxy relay resolve upper' 'file' --cert --key --key-password-file
    _netkit_option 'connect fetch portcheck relay resolve' 'host' --servername
    _netkit_option 'connect fetch portcheck relay resolve' 'any' --fingerprint
    _netkit_option 'connect fetch portcheck relay resolve' '' --insecure
    _netkit_option 'connect echo listen portcheck proxy relay resolve upper' 'any' --alpn
    _netkit_option 'connect echo fetch listen portcheck proxy relay resolve upper' 'one of 1.0 1.1 1.2 1.3' --tls-min --tls-max
    _netkit_option 'connect portcheck relay' 'begins with socks5h:// socks5:// socks4a:// socks4:// http:// https://' --proxy
    _netkit_option 'connect fetch portcheck relay' 'file' --proxy-user-file
    _netkit_option 'connect relay' 'one of v1 v2' --send-proxy
    _netkit_option 'connect portcheck relay' 'one of smtp lmtp imap pop3 ftp nntp sieve ldap xmpp irc postgres mysql' --starttls
    _netkit_option 'connect listen' '' --telnet --hold --no-shutdown --send-only -C --crlf
    _netkit_option 'connect' '' --show-certs --recv-only --lines
    _netkit_option 'connect' 'any' --wait --reconnect --until --max-bytes --send --send-hex
    _netkit_option 'connect echo fetch listen proxy relay upper' 'any' --idle-timeout
    _netkit_option 'connect echo fetch listen portcheck proxy relay resolve udp-send udp-serve upper' 'any' --timeout
    _netkit_option 'connect listen' 'any' --grace
    _netkit_option 'connect listen relay' 'any' --shutdown-after
    _netkit_option 'connect listen udp-serve' 'command' --exec --sh-exec
    _netkit_option 'connect fetch listen udp-send udp-serve' '' --raw
    _netkit_option 'connect echo fetch listen portcheck proxy relay resolve udp-send udp-serve upper' '' -v --verbose --json
    _netkit_option 'connect echo fetch listen pack portcheck proxy relay resolve sockets udp-send udp-serve unpack upper' '' -q --quiet
    _netkit_option 'connect fetch listen portcheck' '' --progress --no-progress
    _netkit_option 'connect echo listen proxy relay upper' '' --hexdump
    _netkit_option 'connect echo listen proxy relay upper' 'file' --log
    _netkit_option 'connect fetch' '' --stats
    _netkit_option 'echo upper' 'any' --prefix
    _netkit_option 'echo upper' '' --udp --both
    _netkit_option 'echo listen relay upper' 'any' --greet
    _netkit_option 'echo listen proxy relay udp-serve upper' 'file' --port-file
    _netkit_option 'echo listen proxy relay udp-serve upper' '' --print-port --stats
    _netkit_option 'echo listen proxy relay udp-serve upper' 'any' --allow --deny --until --accept-timeout --for --mode
    _netkit_option 'echo listen proxy relay upper' '' --once
    _netkit_option 'echo listen proxy relay upper' 'any' --max-clients --max-conns --keepalive
    _netkit_option 'echo listen proxy upper' 'file' --cafile
    _netkit_option 'echo listen proxy relay upper' 'host' --self-signed
    _netkit_option 'echo listen relay upper' '' --accept-proxy
    _netkit_option 'fetch' 'begins with socks5h:// socks5:// socks4a:// socks4:// http:// https://' --proxy
    _netkit_option 'fetch' 'file' --unix-socket --data-file -o --output
    _netkit_option 'fetch' 'any' --resolve --retry --wait --max-redirects --max-size --method -H --header -u --user --data
    _netkit_option 'fetch' '' --fail --head --compressed -O --remote-name --force --resume -i --include
    _netkit_option 'free-port' 'any' -n --count
    _netkit_option 'free-port' '' --udp
    _netkit_option 'listen' '' -k --keep --label
    _netkit_option 'listen' 'any' --reply
    _netkit_option 'listen' 'file' --reply-file
    _netkit_option 'pack' '' --hex --show --lines
    _netkit_option 'pack' 'any' --length
    _netkit_option 'pack unpack' 'any' --max-size
    _netkit_option 'portcheck' '' --udp --any --all-open --closed --banner --show-certs --all
    _netkit_option 'portcheck' 'any' --payload --settle --send --expect -H --header --status --expires --concurrency --max-rate -w --connect-timeout --wait --interval
    _netkit_option 'portcheck' 'one of text json tap junit github' --format
    _netkit_option 'portcheck resolve sockets' 'one of auto always never' --color
    _netkit_option 'proxy' 'any' --allow-target --deny-target -w --connect-timeout
    _netkit_option 'proxy' 'file' --auth-file
    _netkit_option 'relay' '' --udp
    _netkit_option 'resolve' '' --canonical
    _netkit_option 'resolve' 'service' --service
    _netkit_option 'resolve' 'any' --type --expect -w --connect-timeout --wait --interval
    _netkit_option 'resolve' 'host' --server
    _netkit_option 'sockets' '' --listening --tcp --udp --unix
    _netkit_option 'sockets' 'service' --port
    _netkit_option 'sockets' 'any' --pid --state --watch
    _netkit_option 'udp-send' '' --lines --hex --keep-going --broadcast --any-source --stats
    _netkit_option 'udp-send' 'any' --size --rate --repeat --interval --replies --wait --ttl --source
    _netkit_option 'udp-send udp-serve' 'one of raw lines hex json none' --output
    _netkit_option 'udp-send' 'interface' --interface
    _netkit_option 'udp-serve' 'any' --reply --count --until-idle --join --idle-timeout
    _netkit_option 'udp-serve' 'one of echo upper' --reply-with
    _netkit_option 'unpack' '' --repeat --lines --json
    _netkit_option 'unpack' 'any' --length
    _netkit_option 'upper' '' --unicode
}
# -- until here

complete -F _netkit netkit
