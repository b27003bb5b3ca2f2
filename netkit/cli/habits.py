"""What users of other tools type, and what to type here: options, and words in the place of a command."""

from collections.abc import Mapping


def by_name(habits: Mapping[str, str]) -> dict[str, str]:
    """The advice for each name, of habits that several names may share: ``"-I --spider"``."""
    return {name: advice for names, advice in habits.items() for name in names.split()}


HABITS = {
    "-l": "netkit listen ADDRESS listens",
    "-u": "datagrams are netkit udp-send and netkit udp-serve, and a conversation netkit connect udp:ADDRESS",
    "-z": "netkit portcheck HOST PORTS looks which ports are open",
    "-e": "--exec CMD of netkit connect and netkit listen runs a program over a connection",
    "-c": "--sh-exec CMD of netkit connect and netkit listen has the shell run it",
    "-U": "write unix:PATH as the address",
    "-V --version": "netkit --version prints the version",
    "--ssl": "netkit connect tls:HOST:PORT speaks TLS",
    "--udp": "datagrams are netkit udp-send and netkit udp-serve, and a conversation netkit connect udp:ADDRESS",
}

COMMAND_HABITS = {
    "nc ncat netcat socat": "netkit connect HOST PORT connects, netkit listen PORT listens",
    "telnet": "netkit connect --telnet HOST PORT speaks telnet, netkit connect HOST PORT plain TCP",
    "openssl s_client": "netkit connect tls:HOST:PORT speaks TLS",
    "tls ssl stunnel": "tls: before an address is TLS, as in netkit connect tls:HOST:443, netkit relay tls:8443 TARGET",
    "cert certificate": "netkit portcheck tls:HOST:443 shows it, netkit connect tls:HOST:443 --show-certs prints it",
    "curl wget http https get": "netkit fetch URL gets a URL",
    "mock": "netkit listen PORT --reply TEXT sends everybody the same answer",
    "serve server accept": "netkit listen PORT takes a client, netkit echo PORT sends every byte back",
    "receive recv receive-file recv-file": "netkit listen PORT > FILE takes one connection and keeps what it sends",
    "send send-file client": "netkit connect HOST PORT sends stdin over TCP, netkit udp-send HOST PORT as datagrams",
    "udp": "netkit udp-send HOST PORT sends datagrams, netkit udp-serve PORT receives them",
    "dns dig host nslookup lookup": "netkit resolve NAME looks a name up, with --type MX and the like in DNS",
    "scan nmap check ping": "netkit portcheck HOST:PORTS shows which ports are open, with --wait D until they are",
    "wait wait-for wait-for-it wait4x dockerize pg_isready": "netkit portcheck postgres://db --wait 60s waits for it",
    "ss netstat lsof fuser who ports": "netkit sockets shows this machine's sockets, with --port N who has a port",
    "forward tunnel": "netkit relay LISTEN TARGET accepts here and connects there",
    "socks": "netkit proxy PORT is a SOCKS and HTTP proxy, netkit connect --proxy URL goes through one",
    "ip ifconfig hostname": "netkit resolve shows this machine's name and addresses",
    "ipcalc": "netkit address WORD says what an address or a network is",
    "man": "netkit help COMMAND shows a manual page",
    "version": "netkit --version prints the version",
}

TLS_HABITS = {"--ssl": "--tls, or tls: before the address"}

SERVER_HABITS = {
    **HABITS,
    **TLS_HABITS,
    "-l": "this listens already",
    "-k": "any number of clients are served",
    "-p --port": "the port is part of the address: PORT, :PORT or HOST:PORT",
    "-s --host": "the host is part of the address: HOST:PORT",
    "-w": "--accept-timeout D bounds the wait for a client",
}

PROXY_HABITS = {
    "-X --proxy-type": "the proxy's URL says what it speaks: --proxy socks5h://HOST:PORT or http://HOST:PORT",
    "--proxy-auth --proxy-user": "--proxy URL has USER:PASSWORD@ in front of its host; --proxy-user-file FILE keeps it",
    "--proxy-dns": "--proxy socks5h:// has the proxy look names up, socks5:// does so here",
    "--socks4": "--proxy socks4://HOST:PORT",
    "--socks4a": "--proxy socks4a://HOST:PORT",
    "--socks5": "--proxy socks5://HOST:PORT",
    "--socks5-hostname": "--proxy socks5h://HOST:PORT",
    "--preproxy": "--proxy once for each proxy, the nearest first",
}
