# Completion of netkit for fish.

# Whether the command on the line is this one; without an argument, whether there is none yet.
function __netkit_command
    set -l words (commandline -opc)
    set -e words[1]
    while string match -qr '^(-[vq]+|--verbose|--quiet|--json)$' -- "$words[1]"
        set -e words[1]
    end
    if contains -- -- $words[2..]
        return 1
    end
    test "$words[1]" = "$argv[1]"
end

# One option, or what stands for words: the commands that have it, and what complete is to know of it.
function __netkit_option
    for command in (string split ' ' $argv[1])
        complete -c netkit -n "__netkit_command $command" $argv[2..]
    end
end

# Whether words of a COMMAND follow "--".
function __netkit_after
    contains -- -- (commandline -opc)
end

# What completes the words of COMMAND.
function __netkit_rest
    set -l words (commandline -opc)
    set -l first (math (contains -i -- -- $words) + 1)
    complete -C (string join ' ' -- (string escape -- $words[$first..]) (commandline -ct))
end

function __netkit_ports
    test -r /etc/services; and string match -rg '^([a-z0-9][^\s#]*)\s' </etc/services
end

# HOST: and a port, HOST and a port, unix:PATH; also with tls: or udp: in front.
function __netkit_addresses
    set -l word (commandline -ct)
    set -l before (commandline -opc)[-1]
    set -l lead (string match -r '^(?:tls:|udp:)?' -- $word)
    set -l rest (string replace -r '^(?:tls:|udp:)?' '' -- $word)
    if string match -q 'unix:*' -- $rest
        printf '%s\n' {$lead}unix:(__fish_complete_path (string replace unix: '' -- $rest) | string replace -r '\t.*' '')
    else if string match -qr '^(\[.*\]|[^:]*):' -- $rest
        printf '%s\n' $lead(string replace -r ':[^:]*$' '' -- $rest):(__netkit_ports)
    else
        if test (count (commandline -opc)) -gt 2; and not string match -qr '^-|:' -- $before
            __netkit_ports
        end
        printf '%s\n' $lead(__fish_print_hostnames): {$lead}{unix,tls,udp}:
    end
end

complete -c netkit -f
complete -c netkit -n __netkit_after -x -a '(__netkit_rest)'
complete -c netkit -n __netkit_command -s h -l help -d 'Show the commands'
complete -c netkit -n __netkit_command -l version -d 'Print the version'

# -- written by python -m netkit.cli.man
complete -c netkit -n __netkit_command -a address -d 'explain an address'
complete -c netkit -n __netkit_command -a completion -d 'print a completion script'
complete -c netkit -n __netkit_command -a connect -d 'join stdin and stdout to a server'
complete -c netkit -n __netkit_command -a echo -d 'send every byte back'
complete -c netkit -n __netkit_command -a fetch -d 'get a URL'
complete -c netkit -n __netkit_command -a free-port -d 'find an unused port'
complete -c netkit -n __netkit_command -a help -d 'show a manual page'
complete -c netkit -n __netkit_command -a listen -d 'accept a client on stdin and stdout'
complete -c netkit -n __netkit_command -a pack -d 'turn values into bytes'
complete -c netkit -n __netkit_command -a portcheck -d 'check ports, or wait for services'
complete -c netkit -n __netkit_command -a proxy -d 'run a SOCKS and HTTP proxy'
complete -c netkit -n __netkit_command -a relay -d 'forward connections'
complete -c netkit -n __netkit_command -a resolve -d 'look up names'
complete -c netkit -n __netkit_command -a services -d 'look up port names'
complete -c netkit -n __netkit_command -a sockets -d 'list open sockets'
complete -c netkit -n __netkit_command -a udp-send -d 'send datagrams'
complete -c netkit -n __netkit_command -a udp-serve -d 'receive datagrams'
complete -c netkit -n __netkit_command -a unpack -d 'turn bytes into values'
complete -c netkit -n __netkit_command -a upper -d 'echo in upper case'
__netkit_option address -x -a '(__fish_print_hostnames)'
__netkit_option completion -x -a 'bash zsh fish'
__netkit_option connect -x -a '(__netkit_addresses)'
__netkit_option echo -x -a '(__netkit_addresses)'
__netkit_option fetch -x -a 'http:// https://'
__netkit_option help -x -a 'address completion connect echo fetch free-port help listen pack portcheck proxy relay resolve services sockets udp-send udp-serve unpack upper addresses ending exit-codes proxies values'
__netkit_option listen -x -a '(__netkit_addresses)'
__netkit_option portcheck -x -a '(__netkit_addresses)'
__netkit_option proxy -x -a '(__netkit_addresses)'
__netkit_option relay -x -a '(__netkit_addresses)'
__netkit_option resolve -x -a '(__fish_print_hostnames)'
__netkit_option services -x -a '(__netkit_ports)'
__netkit_option udp-send -x -a '(__netkit_addresses)'
__netkit_option udp-serve -x -a '(__netkit_addresses)'
__netkit_option upper -x -a '(__netkit_addresses)'
__netkit_option 'address' -l endpoint -d 'Accept only HOST:PORT, and exit with 2 for anything else'
__netkit_option 'address free-port services sockets' -l json -d 'Print the answer as JSON Lines'
__netkit_option 'address completion connect echo fetch free-port help listen pack portcheck proxy relay resolve services sockets udp-send udp-serve unpack upper' -s h -l help -d 'Show this help'
__netkit_option 'connect echo fetch listen portcheck proxy relay resolve sockets udp-send udp-serve upper' -s 4 -d 'Use IPv4 only'
__netkit_option 'connect echo fetch listen portcheck proxy relay resolve sockets udp-send udp-serve upper' -s 6 -d 'Use IPv6 only'
__netkit_option 'connect echo fetch listen portcheck proxy relay udp-send udp-serve upper' -s n -l numeric -d 'Accept only addresses, no names'
__netkit_option 'connect fetch relay' -s w -l connect-timeout -x -d 'Time limit for resolving, connecting and TLS'
__netkit_option 'connect fetch proxy relay' -l source -x -d 'Connect from this address and port'
__netkit_option 'connect fetch proxy relay' -l interface -x -a '(__fish_print_interfaces)' -d 'Connect through this interface only, such as eth0'
__netkit_option 'connect fetch' -l keepalive -x -d 'Probe a peer that is silent for D'
__netkit_option 'connect echo listen portcheck proxy resolve upper' -l tls -d 'Use TLS, as with tls: before the address'
__netkit_option 'connect fetch portcheck relay resolve' -l cafile -r -F -d 'Trust the authorities in FILE'
__netkit_option 'connect echo fetch listen portcheck proxy relay resolve upper' -l cert -r -F -d 'Present the certificate in FILE, with its chain'
__netkit_option 'connect echo fetch listen portcheck proxy relay resolve upper' -l key -r -F -d 'Private key of the certificate'
__netkit_option 'connect echo fetch listen portcheck proxy relay resolve upper' -l key-password-file -r -F -d 'Decrypt the key with the password in the first line of FILE'
__netkit_option 'connect fetch portcheck relay resolve' -l servername -x -a '(__fish_print_hostnames)' -d 'Ask for this server name, and verify it'
__netkit_option 'connect fetch portcheck relay resolve' -l fingerprint -x -d 'Accept only the certificate with this SHA-256, whatever its names and dates'
__netkit_option 'connect fetch portcheck relay resolve' -l insecure -d 'Do not verify the peer\'s certificate'
__netkit_option 'connect echo listen portcheck proxy relay resolve upper' -l alpn -x -d 'Agree on one of these protocols, the preferred first'
__netkit_option 'connect echo fetch listen portcheck proxy relay resolve upper' -l tls-min -x -a '1.0 1.1 1.2 1.3' -d 'Minimum version of TLS: 1.0, 1.1, 1.2 or 1.3'
__netkit_option 'connect echo fetch listen portcheck proxy relay resolve upper' -l tls-max -x -a '1.0 1.1 1.2 1.3' -d 'Maximum version of TLS'
__netkit_option 'connect portcheck relay' -l proxy -x -a 'socks5h:// socks5:// socks4a:// socks4:// http:// https://' -d 'Connect through a proxy: socks5h://[USER:PASSWORD@]HOST[:PORT], or socks5, socks4a, socks4, http, https'
__netkit_option 'connect fetch portcheck relay' -l proxy-user-file -r -F -d 'Read USER:PASSWORD from FILE, for proxies whose URL has no user'
__netkit_option 'connect relay' -l send-proxy -x -a 'v1 v2' -d 'Send a PROXY protocol header first, v1 or v2, with our address'
__netkit_option 'connect portcheck relay' -l starttls -x -a 'smtp lmtp imap pop3 ftp nntp sieve ldap xmpp irc postgres mysql' -d 'Start TLS with the STARTTLS of PROTOCOL: smtp, lmtp, imap, pop3, ftp, nntp, sieve, ldap, xmpp, irc, postgres, mysql'
__netkit_option 'connect listen' -l telnet -d 'Speak telnet: answer its negotiation and remove its commands from the data'
__netkit_option 'connect' -l show-certs -d 'Print the certificates of the server, in PEM, and exit'
__netkit_option 'connect' -l wait -x -d 'Keep trying to connect for D, then exit with 28'
__netkit_option 'connect' -l reconnect -x -d 'If the peer ends or resets before our input ends, try to connect again for D, then exit with 28'
__netkit_option 'connect echo fetch listen proxy relay upper' -l idle-timeout -x -d 'Close a connection idle for D'
__netkit_option 'connect echo fetch listen portcheck proxy relay resolve udp-send udp-serve upper' -l timeout -x -d 'Exit with 28 after D'
__netkit_option 'connect listen' -l grace -x -d 'After the peer\'s end, exit when our input is idle for D'
__netkit_option 'connect listen' -l hold -d 'After the peer\'s end, wait for the end of our input'
__netkit_option 'connect listen' -l no-shutdown -d 'Do not send the end of our input'
__netkit_option 'connect listen relay' -l shutdown-after -x -d 'Send the end of input when nothing has come back for D'
__netkit_option 'connect listen' -l send-only -d 'Exit when all of our input is sent and acknowledged'
__netkit_option 'connect' -l recv-only -d 'Do not read stdin'
__netkit_option 'connect' -l until -x -d 'Exit with 0 after the first match in the peer\'s data'
__netkit_option 'connect' -l max-bytes -x -d 'Exit with 0 after N bytes from the peer'
__netkit_option 'connect' -l send -x -d 'Send TEXT instead of stdin'
__netkit_option 'connect' -l send-hex -x -d 'Send these bytes instead of stdin'
__netkit_option 'connect' -l lines -d 'Send each line as a datagram of its own'
__netkit_option 'connect listen' -s C -l crlf -d 'Send line endings as CR LF'
__netkit_option 'connect listen udp-serve' -l exec -x -a '(__fish_complete_command)' -d 'Run CMD with each connection as its stdin and stdout'
__netkit_option 'connect listen udp-serve' -l sh-exec -x -a '(__fish_complete_command)' -d 'Like --exec, but /bin/sh runs CMD'
__netkit_option 'connect fetch listen udp-send udp-serve' -l raw -d 'Write control bytes to a terminal as they are'
__netkit_option 'connect echo fetch listen portcheck proxy relay resolve udp-send udp-serve upper' -s v -l verbose -d 'Print what happens'
__netkit_option 'connect echo fetch listen pack portcheck proxy relay resolve sockets udp-send udp-serve unpack upper' -s q -l quiet -d 'Print no messages'
__netkit_option 'connect echo fetch listen portcheck proxy relay resolve udp-send udp-serve upper' -l json -d 'Print events and failures as JSON Lines'
__netkit_option 'connect fetch listen portcheck' -l progress -d 'Show progress from the start'
__netkit_option 'connect fetch listen portcheck' -l no-progress -d 'Do not show progress'
__netkit_option 'connect echo listen proxy relay upper' -l hexdump -d 'Write a hex dump of both directions to stderr, as -vvv does'
__netkit_option 'connect echo listen proxy relay upper' -l log -r -F -d 'Append the data of both directions to FILE as JSON Lines'
__netkit_option 'connect fetch' -l stats -d 'Print bytes and time at the end, as JSON'
__netkit_option 'echo upper' -l prefix -x -d 'Put TEXT, as in --greet, before each line'
__netkit_option 'echo upper' -l udp -d 'Serve UDP datagrams instead of TCP'
__netkit_option 'echo upper' -l both -d 'Serve TCP and UDP on the same port'
__netkit_option 'echo listen relay upper' -l greet -x -d 'Send TEXT first'
__netkit_option 'echo listen proxy relay udp-serve upper' -l port-file -r -F -d 'Write the port number to FILE while serving'
__netkit_option 'echo listen proxy relay udp-serve upper' -l print-port -d 'Print the port number as the first line on stdout'
__netkit_option 'echo listen proxy relay udp-serve upper' -l allow -x -d 'Accept only this network'
__netkit_option 'echo listen proxy relay udp-serve upper' -l deny -x -d 'Refuse this network'
__netkit_option 'echo listen proxy relay udp-serve upper' -l until -x -d 'Stop with exit code 0 when a client\'s data matches'
__netkit_option 'echo listen proxy relay udp-serve upper' -l stats -d 'Print what was served at the end, as JSON'
__netkit_option 'echo listen proxy relay udp-serve upper' -l accept-timeout -x -d 'Exit with 28 if no client comes within D'
__netkit_option 'echo listen proxy relay udp-serve upper' -l for -x -d 'Stop after D with exit code 0'
__netkit_option 'echo listen proxy relay upper' -l once -d 'Serve one client, then exit'
__netkit_option 'echo listen proxy relay upper' -l max-clients -x -d 'Serve N clients, then exit'
__netkit_option 'echo listen proxy relay upper' -l max-conns -x -d 'Serve at most N clients at once'
__netkit_option 'echo listen proxy relay udp-serve upper' -l mode -x -d 'Mode of the unix socket\'s file'
__netkit_option 'echo listen proxy relay upper' -l keepalive -x -d 'Probe a client that is silent for D'
__netkit_option 'echo listen proxy upper' -l cafile -r -F -d 'Require clients to have certificates of the authorities in FILE'
__netkit_option 'echo listen proxy relay upper' -l self-signed -x -a '(__fish_print_hostnames)' -d 'Make a certificate for this name, and print its fingerprint'
__netkit_option 'echo listen relay upper' -l accept-proxy -d 'Require a PROXY protocol header from each client, and use the client\'s address in it'
__netkit_option 'fetch' -l proxy -x -a 'socks5h:// socks5:// socks4a:// socks4:// http:// https://' -d 'Go through a proxy instead of those in the environment, \'\' through none: socks5h://[USER:PASSWORD@]HOST[:PORT], or socks5, socks4a, socks4, http, https'
__netkit_option 'fetch' -l unix-socket -r -F -d 'Connect to this unix socket instead of the host'
__netkit_option 'fetch' -l resolve -x -d 'Connect to ADDR for URLs of HOST and PORT, without looking HOST up'
__netkit_option 'fetch' -l retry -x -d 'Try again up to N times while the server cannot answer'
__netkit_option 'fetch' -l wait -x -d 'Try again for D while the server cannot answer, then exit with 28'
__netkit_option 'fetch' -l max-redirects -x -d 'Exit with 47 after more than N redirects'
__netkit_option 'fetch' -l max-size -x -d 'Exit with 63 if there are more than SIZE bytes'
__netkit_option 'fetch' -l fail -d 'Exit with 22, and write nothing, if the status is 400 or more'
__netkit_option 'fetch' -l method -x -d 'Request method'
__netkit_option 'fetch' -l head -d 'Send a HEAD request, and write the status and the header'
__netkit_option 'fetch' -s H -l header -x -d 'Add or replace a header field, \'NAME: VALUE\''
__netkit_option 'fetch' -s u -l user -x -d 'Log in as USER'
__netkit_option 'fetch' -l data -x -d 'Send TEXT, as a form unless -H sets a Content-Type'
__netkit_option 'fetch' -l data-file -r -F -d 'Send the contents of FILE, or of stdin for -, as they are'
__netkit_option 'fetch' -l compressed -d 'Ask for a compressed body, and decompress it'
__netkit_option 'fetch' -s o -l output -r -F -d 'Write to FILE, which appears only when it is complete'
__netkit_option 'fetch' -s O -l remote-name -d 'Like -o, with the last part of the URL\'s path as FILE'
__netkit_option 'fetch' -l force -d 'Overwrite FILE if it exists'
__netkit_option 'fetch' -l resume -d 'Continue a download of FILE that was cut, if the server still has that version'
__netkit_option 'fetch' -s i -l include -d 'Write the status and the header before the body'
__netkit_option 'free-port' -s n -l count -x -d 'Print N ports'
__netkit_option 'free-port' -l udp -d 'Find UDP ports'
__netkit_option 'listen' -s k -l keep -d 'Keep listening, and serve any number of clients at a time'
__netkit_option 'listen' -l label -d 'Write HOST:PORT and a tab before each line'
__netkit_option 'listen' -l reply -x -d 'Send TEXT to each client, as in --greet, and close'
__netkit_option 'listen' -l reply-file -r -F -d 'Send FILE to each client instead of stdin'
__netkit_option 'pack' -l hex -d 'Write hex, one line per record'
__netkit_option 'pack' -l show -d 'Show one number in native, little- and big-endian order'
__netkit_option 'pack' -l length -x -d 'Write the length of each record before it'
__netkit_option 'pack' -l lines -d 'With --length, take each line of stdin as a record'
__netkit_option 'pack unpack' -l max-size -x -d 'Exit with 63 if a record or a format is longer'
__netkit_option 'portcheck' -l udp -d 'Check UDP ports'
__netkit_option 'portcheck' -l payload -x -d 'Send these bytes to each UDP port'
__netkit_option 'portcheck' -l any -d 'Succeed if one port of all targets is as expected'
__netkit_option 'portcheck' -l all-open -d 'Expect every port of a list, a range or a network to be open, not just one'
__netkit_option 'portcheck' -l closed -d 'Expect every port to be closed'
__netkit_option 'portcheck' -l banner -d 'Show the first data that a port sends'
__netkit_option 'portcheck' -l settle -x -d 'Expect the connection to stay open for D'
__netkit_option 'portcheck' -l send -x -d 'Send TEXT to each port'
__netkit_option 'portcheck' -l expect -x -d 'Exit with 8 if the answer, or a URL\'s body, does not match, with 28 if none comes'
__netkit_option 'portcheck' -s H -l header -x -d 'Send this header field to a URL'
__netkit_option 'portcheck' -l status -x -d 'Expect one of these statuses from a URL'
__netkit_option 'portcheck' -l expires -x -d 'Exit with 60 if a certificate expires within D'
__netkit_option 'portcheck' -l show-certs -d 'Print the server\'s certificates, in PEM, after each port\'s line'
__netkit_option 'portcheck' -l concurrency -x -d 'Check at most N ports at a time'
__netkit_option 'portcheck' -l max-rate -x -d 'Start at most N attempts per second, evenly spaced'
__netkit_option 'portcheck' -s w -l connect-timeout -x -d 'Time limit for each look-up, connection and answer'
__netkit_option 'portcheck' -l wait -x -d 'Check again until all is as expected'
__netkit_option 'portcheck' -l interval -x -d 'Time between two rounds of --wait, at least 10ms'
__netkit_option 'portcheck' -l all -d 'Print a line for each port, without summaries'
__netkit_option 'portcheck' -l format -x -a 'text json tap junit github' -d 'Print text, json, tap, junit or github'
__netkit_option 'portcheck resolve sockets' -l color -x -a 'auto always never' -d 'Use colour on a terminal, always or never'
__netkit_option 'proxy' -l allow-target -x -d 'Connect clients only to this target'
__netkit_option 'proxy' -l deny-target -x -d 'Do not connect clients to this target'
__netkit_option 'proxy' -s w -l connect-timeout -x -d 'Time limit for resolving and connecting'
__netkit_option 'proxy' -l auth-file -r -F -d 'Require a user and a password from FILE, which has USER:PASSWORD lines'
__netkit_option 'relay' -l udp -d 'Relay UDP datagrams instead of TCP'
__netkit_option 'resolve' -l canonical -d 'Show the canonical name instead'
__netkit_option 'resolve' -l service -x -a '(__netkit_ports)' -d 'Show addresses with the port of this service'
__netkit_option 'resolve' -l type -x -d 'Ask DNS for records of this type: A, AAAA, MX, TXT, NS, SOA, SRV..'
__netkit_option 'resolve' -l server -x -a '(__fish_print_hostnames)' -d 'Ask this DNS server, or this https URL'
__netkit_option 'resolve' -l expect -x -d 'Exit with 8 if VALUE is not among the answers'
__netkit_option 'resolve' -s w -l connect-timeout -x -d 'Time limit for each look-up'
__netkit_option 'resolve' -l wait -x -d 'Look up again until the answer is as expected'
__netkit_option 'resolve' -l interval -x -d 'Time between two look-ups of --wait, at least 10ms'
__netkit_option 'sockets' -l listening -d 'Show listening sockets, and datagram sockets without a peer'
__netkit_option 'sockets' -l tcp -d 'Show TCP sockets'
__netkit_option 'sockets' -l udp -d 'Show UDP sockets'
__netkit_option 'sockets' -l unix -d 'Show unix sockets'
__netkit_option 'sockets' -l port -x -a '(__netkit_ports)' -d 'Show sockets with this port at either end'
__netkit_option 'sockets' -l pid -x -d 'Show sockets that this process has open'
__netkit_option 'sockets' -l state -x -d 'Show sockets in this state'
__netkit_option 'sockets' -l watch -x -d 'Show the sockets again every D until interrupted'
__netkit_option 'udp-send' -l lines -d 'Send each line of stdin as a datagram, as it comes'
__netkit_option 'udp-send' -l size -x -d 'Send stdin in datagrams of SIZE bytes'
__netkit_option 'udp-send' -l hex -d 'Send each line of stdin, in hex, as a datagram'
__netkit_option 'udp-send' -l rate -x -d 'Send at most SIZE bytes per second'
__netkit_option 'udp-send' -l repeat -x -d 'Send everything N times'
__netkit_option 'udp-send' -l interval -x -d 'Pause between two rounds of --repeat'
__netkit_option 'udp-send' -l replies -x -d 'Print N replies, then exit'
__netkit_option 'udp-send' -l wait -x -d 'Wait for replies until none comes for D'
__netkit_option 'udp-send udp-serve' -l output -x -a 'raw lines hex json none' -d 'Print datagrams in this form'
__netkit_option 'udp-send' -l keep-going -d 'Continue if the port is refused'
__netkit_option 'udp-send' -l broadcast -d 'Allow ADDRESS to be a broadcast address, such as \'<broadcast>\''
__netkit_option 'udp-send' -l any-source -d 'Accept replies from any address and port, as TFTP needs'
__netkit_option 'udp-send' -l ttl -x -d 'Let datagrams pass at most N routers'
__netkit_option 'udp-send' -l source -x -d 'Send from this address and port'
__netkit_option 'udp-send' -l interface -x -a '(__fish_print_interfaces)' -d 'Send through this interface only, such as eth0'
__netkit_option 'udp-send' -l stats -d 'Print datagrams and bytes at the end, as JSON'
__netkit_option 'udp-serve' -l reply -x -d 'Answer each datagram with TEXT'
__netkit_option 'udp-serve' -l reply-with -x -a 'echo upper' -d 'Answer each datagram with itself, or in upper case'
__netkit_option 'udp-serve' -l count -x -d 'Receive N datagrams, then exit'
__netkit_option 'udp-serve' -l until-idle -x -d 'Exit with 0 when no datagram comes for D'
__netkit_option 'udp-serve' -l join -x -d 'Join this multicast group, GROUP or GROUP%INTERFACE'
__netkit_option 'udp-serve' -l idle-timeout -x -d 'Exit with 28 when no datagram comes for D'
__netkit_option 'unpack' -l repeat -d 'Read any number of records, each as it comes'
__netkit_option 'unpack' -l length -x -d 'Read the length of each record before it'
__netkit_option 'unpack' -l lines -d 'With --length and no FORMAT, write each record as a line'
__netkit_option 'unpack' -l json -d 'Write records and failures as JSON Lines'
__netkit_option 'upper' -l unicode -d 'Change all letters of UTF-8 text, not only a to z'
# -- until here
