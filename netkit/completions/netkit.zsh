#compdef netkit
# Completion of netkit for zsh.

# One option, or what stands for words: the COMMANDS that have it, and what _arguments is to know of it.
_netkit_option() {
    [[ " $1 " == *" $command "* ]] && specs+=("${@:2}")
}

# HOST: and a port, HOST and a port, unix:PATH; also with tls: or udp: in front.
_netkit_address() {
    compset -P '(tls|udp):'
    if compset -P 'unix:'; then
        _files
    elif compset -P '(\[*\]|[^:]#):'; then
        _ports
    else
        local -a ports
        [[ $CURRENT -gt 2 && $words[CURRENT-1] != (-*|*:*) ]] && ports=('ports:port:_ports')
        _alternative $ports 'hosts:host:_hosts -S:' 'forms:form:compadd -S ":" unix tls udp'
    fi
}

_netkit() {
    setopt localoptions extendedglob
    local curcontext=$curcontext command state line
    local -a names specs
    typeset -A opt_args
    _netkit_commands

    while [[ $words[2] == (-[vq]##|--verbose|--quiet|--json) ]] && (( CURRENT > 2 )); do
        words[2]=()
        (( CURRENT -= 1 ))
    done
    if (( CURRENT == 2 )); then
        if [[ $words[2] == -* ]]; then
            _arguments '-h[help]' '--help[help]' '--version[print the version]' '-v[say more]' '--verbose[say more]' \
                '-q[say nothing]' '--quiet[say nothing]' '--json[print JSON Lines]'
        else
            _describe -t commands command names
        fi
        return
    fi
    shift words
    (( CURRENT -= 1 ))
    command=$words[1]
    local -i dashes=$words[(i)--]
    if (( dashes < CURRENT )); then
        shift dashes words
        (( CURRENT -= dashes ))
        _normal -P
        return
    fi
    _netkit_table
    curcontext="${curcontext%:*:*}:netkit-$command:"
    _arguments -s -S $specs
}

# -- written by python -m netkit.cli.man
_netkit_commands() {
    names=(
        'address:explain an address'
        'completion:print a completion script'
        'connect:join stdin and stdout to a server'
        'echo:send every byte back'
        'fetch:get a URL'
        'free-port:find an unused port'
        'help:show a manual page'
        'listen:accept a client on stdin and stdout'
        'pack:turn values into bytes'
        'portcheck:check ports, or wait for services'
        'proxy:run a SOCKS and HTTP proxy'
        'relay:forward connections'
        'resolve:look up names'
        'services:look up port names'
        'sockets:list open sockets'
        'udp-send:send datagrams'
        'udp-serve:receive datagrams'
        'unpack:turn bytes into values'
        'upper:echo in upper case'
    )
}
_netkit_table() {
    _netkit_option address '*:word:_hosts'
    _netkit_option completion '*:word:(bash zsh fish)'
    _netkit_option connect '*:word:_netkit_address'
    _netkit_option echo '*:word:_netkit_address'
    _netkit_option fetch '*:word:{compadd -S "" http\:// https\://}'
    _netkit_option help '*:word:(address completion connect echo fetch free-port help listen pack portcheck proxy relay resolve services sockets udp-send udp-serve unpack upper addresses ending exit-codes proxies values)'
    _netkit_option listen '*:word:_netkit_address'
    _netkit_option portcheck '*:word:_netkit_address'
    _netkit_option proxy '*:word:_netkit_address'
    _netkit_option relay '*:word:_netkit_address'
    _netkit_option resolve '*:word:_hosts'
    _netkit_option services '*:word:_ports'
    _netkit_option udp-send '*:word:_netkit_address'
    _netkit_option udp-serve '*:word:_netkit_address'
    _netkit_option upper '*:word:_netkit_address'
    _netkit_option 'address' '--endpoint[Accept only HOST\:PORT, and exit with 2 for anything else]'
    _netkit_option 'address free-port services sockets' '--json[Print the answer as JSON Lines]'
    _netkit_option 'address completion connect echo fetch free-port help listen pack portcheck proxy relay resolve services sockets udp-send udp-serve unpack upper' '-h[Show this help]' '--help[Show this help]'
    _netkit_option 'connect echo fetch listen portcheck proxy relay resolve sockets udp-send udp-serve upper' '-4[Use IPv4 only]'
    _netkit_option 'connect echo fetch listen portcheck proxy relay resolve sockets udp-send udp-serve upper' '-6[Use IPv6 only]'
    _netkit_option 'connect echo fetch listen portcheck proxy relay udp-send udp-serve upper' '-n[Accept only addresses, no names]' '--numeric[Accept only addresses, no names]'
    _netkit_option 'connect fetch relay' '-w+[Time limit for resolving, connecting and TLS]:D: ' '--connect-timeout=[Time limit for resolving, connecting and TLS]:D: '
    _netkit_option 'connect fetch proxy relay' '--source=[Connect from this address and port]:ADDR[\:PORT]: '
    _netkit_option 'connect fetch proxy relay' '--interface=[Connect through this interface only, such as eth0]:IF:_net_interfaces'
    _netkit_option 'connect fetch' '--keepalive=[Probe a peer that is silent for D]:D: '
    _netkit_option 'connect echo listen portcheck proxy resolve upper' '--tls[Use TLS, as with tls\: before the address]'
    _netkit_option 'connect fetch portcheck relay resolve' '--cafile=[Trust the authorities in FILE]:FILE:_files'
    _netkit_option 'connect echo fetch listen portcheck proxy relay resolve upper' '--cert=[Present the certificate in FILE, with its chain]:FILE:_files'
    _netkit_option 'connect echo fetch listen portcheck proxy relay resolve upper' '--key=[Private key of the certificate]:FILE:_files'
    _netkit_option 'connect echo fetch listen portcheck proxy relay resolve upper' '--key-password-file=[Decrypt the key with the password in the first line of FILE]:FILE:_files'
    _netkit_option 'connect fetch portcheck relay resolve' '--servername=[Ask for this server name, and verify it]:NAME:_hosts'
    _netkit_option 'connect fetch portcheck relay resolve' '*--fingerprint=[Accept only the certificate with this SHA-256, whatever its names and dates]:sha256\:HEX: '
    _netkit_option 'connect fetch portcheck relay resolve' '--insecure[Do not verify the peer'\''s certificate]'
    _netkit_option 'connect echo listen portcheck proxy relay resolve upper' '--alpn=[Agree on one of these protocols, the preferred first]:NAME,...: '
    _netkit_option 'connect echo fetch listen portcheck proxy relay resolve upper' '--tls-min=[Minimum version of TLS\: 1.0, 1.1, 1.2 or 1.3]:VERSION:(1.0 1.1 1.2 1.3)'
    _netkit_option 'connect echo fetch listen portcheck proxy relay resolve upper' '--tls-max=[Maximum version of TLS]:VERSION:(1.0 1.1 1.2 1.3)'
    _netkit_option 'connect portcheck relay' '*--proxy=[Connect through a proxy\: socks5h\://\[USER\:PASSWORD@\]HOST\[\:PORT\], or socks5, socks4a, socks4, http, https]:URL:{compadd -S "" socks5h\:// socks5\:// socks4a\:// socks4\:// http\:// https\://}'
    _netkit_option 'connect fetch portcheck relay' '--proxy-user-file=[Read USER\:PASSWORD from FILE, for proxies whose URL has no user]:FILE:_files'
    _netkit_option 'connect relay' '--send-proxy=[Send a PROXY protocol header first, v1 or v2, with our address]:v1|v2:(v1 v2)'
    _netkit_option 'connect portcheck relay' '--starttls=[Start TLS with the STARTTLS of PROTOCOL\: smtp, lmtp, imap, pop3, ftp, nntp, sieve, ldap, xmpp, irc, postgres, mysql]:PROTOCOL:(smtp lmtp imap pop3 ftp nntp sieve ldap xmpp irc postgres mysql)'
    _netkit_option 'connect listen' '--telnet[Speak telnet\: answer its negotiation and remove its commands from the data]'
    _netkit_option 'connect' '--show-certs[Print the certificates of the server, in PEM, and exit]'
    _netkit_option 'connect' '--wait=[Keep trying to connect for D, then exit with 28]:D: '
    _netkit_option 'connect' '--reconnect=[If the peer ends or resets before our input ends, try to connect again for D, then exit with 28]:D: '
    _netkit_option 'connect echo fetch listen proxy relay upper' '--idle-timeout=[Close a connection idle for D]:D: '
    _netkit_option 'connect echo fetch listen portcheck proxy relay resolve udp-send udp-serve upper' '--timeout=[Exit with 28 after D]:D: '
    _netkit_option 'connect listen' '--grace=[After the peer'\''s end, exit when our input is idle for D]:D: '
    _netkit_option 'connect listen' '--hold[After the peer'\''s end, wait for the end of our input]'
    _netkit_option 'connect listen' '--no-shutdown[Do not send the end of our input]'
    _netkit_option 'connect listen relay' '--shutdown-after=[Send the end of input when nothing has come back for D]:D: '
    _netkit_option 'connect listen' '--send-only[Exit when all of our input is sent and acknowledged]'
    _netkit_option 'connect' '--recv-only[Do not read stdin]'
    _netkit_option 'connect' '--until=[Exit with 0 after the first match in the peer'\''s data]:REGEX: '
    _netkit_option 'connect' '--max-bytes=[Exit with 0 after N bytes from the peer]:N: '
    _netkit_option 'connect' '--send=[Send TEXT instead of stdin]:TEXT: '
    _netkit_option 'connect' '--send-hex=[Send these bytes instead of stdin]:HEX: '
    _netkit_option 'connect' '--lines[Send each line as a datagram of its own]'
    _netkit_option 'connect listen' '-C[Send line endings as CR LF]' '--crlf[Send line endings as CR LF]'
    _netkit_option 'connect listen udp-serve' '--exec=[Run CMD with each connection as its stdin and stdout]:CMD:_cmdstring'
    _netkit_option 'connect listen udp-serve' '--sh-exec=[Like --exec, but /bin/sh runs CMD]:CMD:_cmdstring'
    _netkit_option 'connect fetch listen udp-send udp-serve' '--raw[Write control bytes to a terminal as they are]'
    _netkit_option 'connect echo fetch listen portcheck proxy relay resolve udp-send udp-serve upper' '*-v[Print what happens]' '*--verbose[Print what happens]'
    _netkit_option 'connect echo fetch listen pack portcheck proxy relay resolve sockets udp-send udp-serve unpack upper' '-q[Print no messages]' '--quiet[Print no messages]'
    _netkit_option 'connect echo fetch listen portcheck proxy relay resolve udp-send udp-serve upper' '--json[Print events and failures as JSON Lines]'
    _netkit_option 'connect fetch listen portcheck' '--progress[Show progress from the start]'
    _netkit_option 'connect fetch listen portcheck' '--no-progress[Do not show progress]'
    _netkit_option 'connect echo listen proxy relay upper' '--hexdump[Write a hex dump of both directions to stderr, as -vvv does]'
    _netkit_option 'connect echo listen proxy relay upper' '--log=[Append the data of both directions to FILE as JSON Lines]:FILE:_files'
    _netkit_option 'connect fetch' '--stats[Print bytes and time at the end, as JSON]'
    _netkit_option 'echo upper' '--prefix=[Put TEXT, as in --greet, before each line]:TEXT: '
    _netkit_option 'echo upper' '--udp[Serve UDP datagrams instead of TCP]'
    _netkit_option 'echo upper' '--both[Serve TCP and UDP on the same port]'
    _netkit_option 'echo listen relay upper' '--greet=[Send TEXT first]:TEXT: '
    _netkit_option 'echo listen proxy relay udp-serve upper' '--port-file=[Write the port number to FILE while serving]:FILE:_files'
    _netkit_option 'echo listen proxy relay udp-serve upper' '--print-port[Print the port number as the first line on stdout]'
    _netkit_option 'echo listen proxy relay udp-serve upper' '*--allow=[Accept only this network]:CIDR: '
    _netkit_option 'echo listen proxy relay udp-serve upper' '*--deny=[Refuse this network]:CIDR: '
    _netkit_option 'echo listen proxy relay udp-serve upper' '--until=[Stop with exit code 0 when a client'\''s data matches]:REGEX: '
    _netkit_option 'echo listen proxy relay udp-serve upper' '--stats[Print what was served at the end, as JSON]'
    _netkit_option 'echo listen proxy relay udp-serve upper' '--accept-timeout=[Exit with 28 if no client comes within D]:D: '
    _netkit_option 'echo listen proxy relay udp-serve upper' '--for=[Stop after D with exit code 0]:D: '
    _netkit_option 'echo listen proxy relay upper' '--once[Serve one client, then exit]'
    _netkit_option 'echo listen proxy relay upper' '--max-clients=[Serve N clients, then exit]:N: '
    _netkit_option 'echo listen proxy relay upper' '--max-conns=[Serve at most N clients at once]:N: '
    _netkit_option 'echo listen proxy relay udp-serve upper' '--mode=[Mode of the unix socket'\''s file]:MODE: '
    _netkit_option 'echo listen proxy relay upper' '--keepalive=[Probe a client that is silent for D]:D: '
    _netkit_option 'echo listen proxy upper' '--cafile=[Require clients to have certificates of the authorities in FILE]:FILE:_files'
    _netkit_option 'echo listen proxy relay upper' '--self-signed=[Make a certificate for this name, and print its fingerprint]:NAME:_hosts'
    _netkit_option 'echo listen relay upper' '--accept-proxy[Require a PROXY protocol header from each client, and use the client'\''s address in it]'
    _netkit_option 'fetch' '*--proxy=[Go through a proxy instead of those in the environment, '\'''\'' through none\: socks5h\://\[USER\:PASSWORD@\]HOST\[\:PORT\], or socks5, socks4a, socks4, http, https]:URL:{compadd -S "" socks5h\:// socks5\:// socks4a\:// socks4\:// http\:// https\://}'
    _netkit_option 'fetch' '--unix-socket=[Connect to this unix socket instead of the host]:FILE:_files'
    _netkit_option 'fetch' '*--resolve=[Connect to ADDR for URLs of HOST and PORT, without looking HOST up]:HOST\:PORT\:ADDR: '
    _netkit_option 'fetch' '--retry=[Try again up to N times while the server cannot answer]:N: '
    _netkit_option 'fetch' '--wait=[Try again for D while the server cannot answer, then exit with 28]:D: '
    _netkit_option 'fetch' '--max-redirects=[Exit with 47 after more than N redirects]:N: '
    _netkit_option 'fetch' '--max-size=[Exit with 63 if there are more than SIZE bytes]:SIZE: '
    _netkit_option 'fetch' '--fail[Exit with 22, and write nothing, if the status is 400 or more]'
    _netkit_option 'fetch' '--method=[Request method]:METHOD: '
    _netkit_option 'fetch' '--head[Send a HEAD request, and write the status and the header]'
    _netkit_option 'fetch' '*-H+[Add or replace a header field, '\''NAME\: VALUE'\'']:FIELD: ' '*--header=[Add or replace a header field, '\''NAME\: VALUE'\'']:FIELD: '
    _netkit_option 'fetch' '-u+[Log in as USER]:USER[\:PASSWORD]: ' '--user=[Log in as USER]:USER[\:PASSWORD]: '
    _netkit_option 'fetch' '--data=[Send TEXT, as a form unless -H sets a Content-Type]:TEXT: '
    _netkit_option 'fetch' '--data-file=[Send the contents of FILE, or of stdin for -, as they are]:FILE:_files'
    _netkit_option 'fetch' '--compressed[Ask for a compressed body, and decompress it]'
    _netkit_option 'fetch' '-o+[Write to FILE, which appears only when it is complete]:FILE:_files' '--output=[Write to FILE, which appears only when it is complete]:FILE:_files'
    _netkit_option 'fetch' '-O[Like -o, with the last part of the URL'\''s path as FILE]' '--remote-name[Like -o, with the last part of the URL'\''s path as FILE]'
    _netkit_option 'fetch' '--force[Overwrite FILE if it exists]'
    _netkit_option 'fetch' '--resume[Continue a download of FILE that was cut, if the server still has that version]'
    _netkit_option 'fetch' '-i[Write the status and the header before the body]' '--include[Write the status and the header before the body]'
    _netkit_option 'free-port' '-n+[Print N ports]:N: ' '--count=[Print N ports]:N: '
    _netkit_option 'free-port' '--udp[Find UDP ports]'
    _netkit_option 'listen' '-k[Keep listening, and serve any number of clients at a time]' '--keep[Keep listening, and serve any number of clients at a time]'
    _netkit_option 'listen' '--label[Write HOST\:PORT and a tab before each line]'
    _netkit_option 'listen' '--reply=[Send TEXT to each client, as in --greet, and close]:TEXT: '
    _netkit_option 'listen' '--reply-file=[Send FILE to each client instead of stdin]:FILE:_files'
    _netkit_option 'pack' '--hex[Write hex, one line per record]'
    _netkit_option 'pack' '--show[Show one number in native, little- and big-endian order]'
    _netkit_option 'pack' '--length=[Write the length of each record before it]:u8|u16|u32[le]: '
    _netkit_option 'pack' '--lines[With --length, take each line of stdin as a record]'
    _netkit_option 'pack unpack' '--max-size=[Exit with 63 if a record or a format is longer]:SIZE: '
    _netkit_option 'portcheck' '--udp[Check UDP ports]'
    _netkit_option 'portcheck' '--payload=[Send these bytes to each UDP port]:HEX: '
    _netkit_option 'portcheck' '--any[Succeed if one port of all targets is as expected]'
    _netkit_option 'portcheck' '--all-open[Expect every port of a list, a range or a network to be open, not just one]'
    _netkit_option 'portcheck' '--closed[Expect every port to be closed]'
    _netkit_option 'portcheck' '--banner[Show the first data that a port sends]'
    _netkit_option 'portcheck' '--settle=[Expect the connection to stay open for D]:D: '
    _netkit_option 'portcheck' '--send=[Send TEXT to each port]:TEXT: '
    _netkit_option 'portcheck' '--expect=[Exit with 8 if the answer, or a URL'\''s body, does not match, with 28 if none comes]:REGEX: '
    _netkit_option 'portcheck' '*-H+[Send this header field to a URL]:FIELD: ' '*--header=[Send this header field to a URL]:FIELD: '
    _netkit_option 'portcheck' '--status=[Expect one of these statuses from a URL]:CODE,...: '
    _netkit_option 'portcheck' '--expires=[Exit with 60 if a certificate expires within D]:D: '
    _netkit_option 'portcheck' '--show-certs[Print the server'\''s certificates, in PEM, after each port'\''s line]'
    _netkit_option 'portcheck' '--concurrency=[Check at most N ports at a time]:N: '
    _netkit_option 'portcheck' '--max-rate=[Start at most N attempts per second, evenly spaced]:N: '
    _netkit_option 'portcheck' '-w+[Time limit for each look-up, connection and answer]:D: ' '--connect-timeout=[Time limit for each look-up, connection and answer]:D: '
    _netkit_option 'portcheck' '--wait=[Check again until all is as expected]:D: '
    _netkit_option 'portcheck' '--interval=[Time between two rounds of --wait, at least 10ms]:D: '
    _netkit_option 'portcheck' '--all[Print a line for each port, without summaries]'
    _netkit_option 'portcheck' '--format=[Print text, json, tap, junit or github]:FORMAT:(text json tap junit github)'
    _netkit_option 'portcheck resolve sockets' '--color=[Use colour on a terminal, always or never]:WHEN:(auto always never)'
    _netkit_option 'proxy' '*--allow-target=[Connect clients only to this target]:TARGET: '
    _netkit_option 'proxy' '*--deny-target=[Do not connect clients to this target]:TARGET: '
    _netkit_option 'proxy' '-w+[Time limit for resolving and connecting]:D: ' '--connect-timeout=[Time limit for resolving and connecting]:D: '
    _netkit_option 'proxy' '--auth-file=[Require a user and a password from FILE, which has USER\:PASSWORD lines]:FILE:_files'
    _netkit_option 'relay' '--udp[Relay UDP datagrams instead of TCP]'
    _netkit_option 'resolve' '--canonical[Show the canonical name instead]'
    _netkit_option 'resolve' '--service=[Show addresses with the port of this service]:NAME:_ports'
    _netkit_option 'resolve' '--type=[Ask DNS for records of this type\: A, AAAA, MX, TXT, NS, SOA, SRV..]:TYPE: '
    _netkit_option 'resolve' '--server=[Ask this DNS server, or this https URL]:ADDRESS:_hosts'
    _netkit_option 'resolve' '*--expect=[Exit with 8 if VALUE is not among the answers]:VALUE: '
    _netkit_option 'resolve' '-w+[Time limit for each look-up]:D: ' '--connect-timeout=[Time limit for each look-up]:D: '
    _netkit_option 'resolve' '--wait=[Look up again until the answer is as expected]:D: '
    _netkit_option 'resolve' '--interval=[Time between two look-ups of --wait, at least 10ms]:D: '
    _netkit_option 'sockets' '--listening[Show listening sockets, and datagram sockets without a peer]'
    _netkit_option 'sockets' '--tcp[Show TCP sockets]'
    _netkit_option 'sockets' '--udp[Show UDP sockets]'
    _netkit_option 'sockets' '--unix[Show unix sockets]'
    _netkit_option 'sockets' '--port=[Show sockets with this port at either end]:N:_ports'
    _netkit_option 'sockets' '--pid=[Show sockets that this process has open]:N: '
    _netkit_option 'sockets' '--state=[Show sockets in this state]:S: '
    _netkit_option 'sockets' '--watch=[Show the sockets again every D until interrupted]:D: '
    _netkit_option 'udp-send' '--lines[Send each line of stdin as a datagram, as it comes]'
    _netkit_option 'udp-send' '--size=[Send stdin in datagrams of SIZE bytes]:SIZE: '
    _netkit_option 'udp-send' '--hex[Send each line of stdin, in hex, as a datagram]'
    _netkit_option 'udp-send' '--rate=[Send at most SIZE bytes per second]:SIZE: '
    _netkit_option 'udp-send' '--repeat=[Send everything N times]:N: '
    _netkit_option 'udp-send' '--interval=[Pause between two rounds of --repeat]:D: '
    _netkit_option 'udp-send' '--replies=[Print N replies, then exit]:N|any: '
    _netkit_option 'udp-send' '--wait=[Wait for replies until none comes for D]:D: '
    _netkit_option 'udp-send udp-serve' '--output=[Print datagrams in this form]:raw|lines|hex|json|none:(raw lines hex json none)'
    _netkit_option 'udp-send' '--keep-going[Continue if the port is refused]'
    _netkit_option 'udp-send' '--broadcast[Allow ADDRESS to be a broadcast address, such as '\''<broadcast>'\'']'
    _netkit_option 'udp-send' '--any-source[Accept replies from any address and port, as TFTP needs]'
    _netkit_option 'udp-send' '--ttl=[Let datagrams pass at most N routers]:N: '
    _netkit_option 'udp-send' '--source=[Send from this address and port]:ADDR[\:PORT]: '
    _netkit_option 'udp-send' '--interface=[Send through this interface only, such as eth0]:IF:_net_interfaces'
    _netkit_option 'udp-send' '--stats[Print datagrams and bytes at the end, as JSON]'
    _netkit_option 'udp-serve' '--reply=[Answer each datagram with TEXT]:TEXT: '
    _netkit_option 'udp-serve' '--reply-with=[Answer each datagram with itself, or in upper case]:echo|upper:(echo upper)'
    _netkit_option 'udp-serve' '--count=[Receive N datagrams, then exit]:N: '
    _netkit_option 'udp-serve' '--until-idle=[Exit with 0 when no datagram comes for D]:D: '
    _netkit_option 'udp-serve' '*--join=[Join this multicast group, GROUP or GROUP%INTERFACE]:GROUP: '
    _netkit_option 'udp-serve' '--idle-timeout=[Exit with 28 when no datagram comes for D]:D: '
    _netkit_option 'unpack' '--repeat[Read any number of records, each as it comes]'
    _netkit_option 'unpack' '--length=[Read the length of each record before it]:u8|u16|u32[le]: '
    _netkit_option 'unpack' '--lines[With --length and no FORMAT, write each record as a line]'
    _netkit_option 'unpack' '--json[Write records and failures as JSON Lines]'
    _netkit_option 'upper' '--unicode[Change all letters of UTF-8 text, not only a to z]'
}
# -- until here

if [[ $funcstack[1] == _netkit ]]; then
    _netkit "$@"
else
    compdef _netkit netkit
fi
