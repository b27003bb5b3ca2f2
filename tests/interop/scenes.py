"""What each example of the documents needs, and its expected output: SCENES.

An example runs in a folder with FILES, on the first machine of tests/support/services.py.
"""

from typing import Any, NamedTuple

CTRL_C = 130

PAGE = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nhi\n"
FILES = {
    "request": "GET / HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n",
    "query": "select 1\n",
    "words": "one\ntwo\n",
    "app.log": "started\nready\n",
    "targets": "db:5432  # PostgreSQL\ncache:6379\n",
    "users": "me:secret\n",
    "page.http": PAGE,
    "file": "data\n",
    "Makefile": "test:\n\t@[ -z '$(PEER)' ] || echo hi | netkit connect $(PEER)\n\t@echo tested\n"
    "report:\n\t@echo a report\n",
}


class Scene(NamedTuple):
    """What an example needs, as lines of bash, and its expected output, as patterns that match all of it.

    ``needs`` has services, separated by commas; the last one must log ``asked``. ``before`` and ``after`` run in the
    shell of the example. ``client`` runs after the ready line, and must print ``got``. If the code is CTRL_C, the
    example is ended by Ctrl-C once the output is complete. Without ``err`` stderr may only have ready lines. An
    example with ``beyond`` needs what that says, and is not run.
    """

    out: str = ""
    code: int = 0
    err: str = ""
    needs: str = ""
    asked: str = ""
    stdin: str | None = ""
    before: str = ""
    after: str = ""
    client: str = ""
    got: str = ""
    shell: str = "bash"
    beyond: str = ""


def serves(client: str, got: str = "", **more: Any) -> Scene:
    """A server, which runs until Ctrl-C."""
    return Scene(client=client, got=got, code=CTRL_C, **more)


def page(heading: str) -> Scene:
    """A page of the manual with this heading."""
    return Scene(f"(.*\n)?{heading}\n.*")


def open_port(host: str, port: str, detail: str = ".*") -> str:
    """A pattern for portcheck's line about an open port."""
    return rf"{host}\t{port}/tcp\t[0-9.]+\topen\t[0-9.]+\t{detail}\n"


INTERNET = "the Internet"
RUN = "the Internet; .ci/run runs it"
GET = "GET / HTTP/1.0\r\nHost: x\r\n\r\n"
WEB = "HTTP/1.1 200 OK\r\n.*\r\n\r\nhi from {}\n"
POSTGRES, REDIS = open_port("db", "5432", "ready"), open_port("cache", "6379", "ready")
DB = open_port("db", "5432")
HEALTH = open_port("app", "80", "ready: 200 OK")
TESTED = "tested\n"
CERTIFICATE = " 0 s:.*-----BEGIN CERTIFICATE-----\n.*-----END CERTIFICATE-----\n"
TCP = "socat -t 10 - TCP:{}"
HI = "echo hi | " + TCP
SOCKS_TO_DB = "echo hi | there socat -t 10 - SOCKS4A:here:db:5432,socksport=1080"
DENIED = "there curl -sSx socks5h://here:1080 {} 2>&1"
TLS = r"TLSv1\.\d, .*"

SCENES = {
    # -- netkit
    "netkit help": page("COMMANDS"),
    "netkit help connect": page("SYNOPSIS"),
    "netkit help addresses": page("ADDRESSES"),
    "netkit help ending": page("WHEN A CONVERSATION ENDS"),
    "netkit help exit-codes": page("EXIT STATUS"),
    "netkit help proxies": page("THROUGH PROXIES"),
    "netkit help values": page("VALUES"),
    "source <(netkit completion bash)": Scene("complete .* netkit\n", after="complete -p netkit"),
    "netkit completion fish | source": Scene("connect\t.*\n", shell="fish", after="complete -C 'netkit conn'"),
    # -- installing
    "python3 -m venv --without-pip .venv && python3 -m pip --python .venv/bin/python install -q . && { "
    ".venv/bin/netkit upper 9007 --once & echo hello | .venv/bin/netkit connect 127.0.0.1:9007 --wait 5; }": Scene(
        beyond=RUN
    ),
    "python3 -m venv --without-pip .venv && python3 -m pip --python .venv/bin/python install -q -e '.[test]' && "
    ".venv/bin/python -m pytest -q": Scene(beyond=RUN),
    "git clone <your fork> && cd netkit": Scene(beyond=INTERNET),
    "python3 -m venv --without-pip .venv && python3 -m pip --python .venv/bin/python install -q -e '.[test,dev]' && "
    ". .venv/bin/activate": Scene(beyond=INTERNET),
    "apt-get update && DEBIAN_FRONTEND=noninteractive xargs -a .ci/partners.txt apt-get install -y "
    "--no-install-recommends": Scene(beyond=RUN),
    ".ci/zipapp && install -D dist/netkit.pyz ~/.local/bin/netkit": Scene(beyond=RUN),
    "apt-get install --no-install-recommends python3-click python3-rich python3-dnspython python3-h11 python3-h2 "
    "python3-idna python3-socksio": Scene(beyond=RUN),
    # -- connect
    "netkit connect example.org 80": Scene(WEB.format("x"), stdin=GET, needs="web"),
    "netkit connect host 80": Scene(WEB.format("x"), stdin=GET, needs="web"),
    "netkit connect -w 5 --idle-timeout 5 host 80": Scene(WEB.format("x"), stdin=GET, needs="web"),
    "netkit connect --recv-only host 9001": Scene("\0\2hi\0\3you", needs="records"),
    "netkit connect host 80 --hexdump": Scene(WEB.format("x"), stdin=GET, needs="web", err="GET / HTTP/1.0"),
    "netkit connect host 80 --log dump": Scene(
        WEB.format("x") + ".*GET / HTTP/1.0.*", stdin=GET, needs="web", after="cat dump"
    ),
    "netkit connect host 80 --exec prog": Scene(WEB.format("prog"), needs="web", after="cat page"),
    "netkit connect host 80 --sh-exec 'prog | tee log'": Scene("GET .*", needs="web", after="cat log"),
    "netkit connect host 25": Scene("220 mail\r\n", stdin="QUIT\n", needs="smtp", asked=r"Q +U +I +T +\\n"),
    "netkit connect -C host 25": Scene("220 mail\r\n", stdin="QUIT\n", needs="smtp", asked=r"Q +U +I +T +\\r +\\n"),
    "netkit connect host 23 --telnet": Scene("login: ", needs="telnet", asked="fffc18", stdin=None),
    "netkit connect unix:/run/app.sock": Scene("HTTP/1.0 200 OK\r\n\r\nup\n", stdin=GET, needs="here app"),
    "netkit connect db:5432 --wait 30s < query": Scene("R.*I", needs="postgres", asked="select 1"),
    "netkit connect udp:localhost:5000": Scene("hello\n", stdin="hello\n", needs="here 5000"),
    "netkit connect udp:host:5000": Scene("hello\n", stdin="hello\n", needs="host 5000"),
    "netkit connect tls:host:443": Scene(WEB.format("x"), stdin=GET, needs="web"),
    "netkit connect tls:host:443 --show-certs": Scene(CERTIFICATE, needs="web"),
    "netkit connect db:9000 < file && echo arrived": Scene("arrived\n", needs="sink", asked=b"data\n".hex()),
    "netkit connect tls:example.org:443 < request": Scene(WEB.format("example.org"), needs="web"),
    "netkit connect tls:example.org:443 --alpn http/1.1 < request": Scene(WEB.format("example.org"), needs="web"),
    "netkit connect tls:example.org:443 --show-certs": Scene(CERTIFICATE, needs="web"),
    "ssh -o ProxyCommand='netkit connect %h:%p --proxy http://proxy.example:3128' host": Scene(
        "42\n", stdin="echo $((6*7))\n", needs="proxy,ssh"
    ),
    # -- openssl
    "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 30 -subj /CN=localhost -addext "
    "subjectAltName=DNS:localhost": Scene(
        "cert.pem: OK\n", before="rm *.pem", err=".*", after="openssl verify -CAfile cert.pem cert.pem"
    ),
    # -- listen
    "netkit listen 9000": Scene("hi\n", client=HI.format("127.0.0.1:9000")),
    "netkit listen :9000": Scene("hi\n", client="echo hi | there socat - TCP:here:9000"),
    "netkit listen 9000 > file": Scene("hi\n", client=HI.format("127.0.0.1:9000"), after="cat file"),
    "netkit listen :9000 > file": Scene("hi\n", client="echo hi | there socat - TCP:here:9000", after="cat file"),
    "netkit listen 9000 --keep": serves(HI.format("127.0.0.1:9000"), "to all\n", stdin="to all\n", out="hi\n"),
    "netkit listen :9000 --keep --label": serves("echo hi | there socat - TCP:here:9000", out=r"10\.9\.0\.2:\d+\thi\n"),
    "netkit listen 9000 --keep --exec prog": serves(TCP.format("127.0.0.1:9000") + " </dev/null", "GET / .*"),
    "netkit listen udp:5000": serves("echo hi | socat -u - UDP4:localhost:5000", out="hi\n"),
    "netkit listen udp:5000 --keep": serves("echo hi | socat -u - UDP4:localhost:5000", out="hi\n"),
    "netkit listen udp:5000 --keep --label": serves(
        "echo hi | socat -u - UDP4:localhost:5000", out=r"127\.0\.0\.1:\d+\thi\n"
    ),
    r"netkit listen 8080 --reply 'HTTP/1.1 200 OK\r\n\r\nhi\n'": serves(
        "curl -s http://127.0.0.1:8080/", "hi\n", out="GET / .*"
    ),
    "netkit listen 8080 --reply-file page.http": serves("curl -s http://127.0.0.1:8080/", "hi\n", out="GET / .*"),
    "netkit listen tls:8443 --cert cert.pem --key key.pem": Scene(
        "hi\n", client="echo hi | socat - OPENSSL:localhost:8443,pf=ip4,cafile=$SSL_CERT_FILE"
    ),
    "netkit listen tls::8443 --cert cert.pem --key key.pem --reply-file page.http": serves(
        "there curl -s https://here:8443/", "hi\n", out="GET / .*"
    ),
    "netkit listen tls::8443 --self-signed host > file": Scene(
        "hi\n", client="echo hi | there socat - OPENSSL:here:8443,verify=0", after="cat file", err="sha256:[0-9a-f]{64}"
    ),
    # -- echo, upper
    "netkit echo 9007": serves(HI.format("127.0.0.1:9007"), "hi\n"),
    "netkit echo 9007 --udp": serves("netkit udp-send localhost 9007 hi --replies 1 --wait 20s", "hi"),
    "netkit echo :9007 --both": serves(
        "there netkit udp-send here 9007 hi --replies 1 --wait 20s; echo hi | there socat -t 10 - TCP:here:9007",
        "hihi\n",
    ),
    "netkit echo 9087 --prefix 'You said ' --until bye -v": Scene(
        client=r"printf 'hi\nbye\n' | " + TCP.format("127.0.0.1:9087"), got="You said hi\nYou said bye\n", err="closed"
    ),
    "netkit echo 0 -- make test": Scene(TESTED),
    "netkit echo 0 -- sh -c 'make test PEER=$NETKIT_ADDRESS'": Scene("hi\n" + TESTED),
    "netkit echo 0 -- sh -c 'echo hi | netkit connect $NETKIT_ADDRESS'": Scene("hi\n"),
    "netkit upper 9007": serves(HI.format("127.0.0.1:9007"), "HI\n"),
    "netkit upper 9007 --udp": serves("netkit udp-send localhost 9007 hi --replies 1 --wait 20s", "HI"),
    "netkit upper 9007 --unicode": serves("echo straße | " + TCP.format("127.0.0.1:9007"), "STRASSE\n"),
    "netkit upper 0 -- sh -c 'echo hi | netkit connect $NETKIT_ADDRESS'": Scene("HI\n"),
    # -- relay, proxy
    "netkit relay 8080 db:5432": serves(HI.format("127.0.0.1:8080"), "R.*I", needs="postgres"),
    "netkit relay 8080 db:80": serves("curl -s http://127.0.0.1:8080/", "hi from 127.0.0.1\n", needs="web"),
    "netkit relay 8080 tls:db:443": serves("curl -s http://127.0.0.1:8080/", "hi from 127.0.0.1\n", needs="web"),
    "netkit relay 8080 tls:example.org:443": serves(
        "curl -s http://127.0.0.1:8080/", "hi from 127.0.0.1\n", needs="web"
    ),
    "netkit relay tls::8443 127.0.0.1:80 --cert c.pem --key k.pem": serves(
        "there curl -s https://here:8443/", "up\n", needs="here 80"
    ),
    "netkit relay tls::8443 127.0.0.1:8080 --cert cert.pem --key key.pem": serves(
        "there curl -s https://here:8443/", "up\n", needs="here 8080"
    ),
    "netkit relay 3890 ldap:389 --starttls ldap": serves(HI.format("127.0.0.1:3890"), "hi\n", needs="starttls"),
    "netkit relay --udp 53 192.0.2.53:53": serves("dig +short @127.0.0.1 example.org", "203.0.113.4\n", needs="nsd"),
    "netkit relay --udp :53 192.0.2.53:53": serves("there dig +short @here example.org", "203.0.113.4\n", needs="nsd"),
    "netkit proxy 1080": serves("curl -sx socks5h://localhost:1080 http://db/", "hi from db\n", needs="web"),
    "netkit proxy 8080": serves("curl -spx localhost:8080 http://db/", "hi from db\n", needs="web"),
    "netkit proxy :1080 --allow 10.0.0.0/8": serves(
        "there curl -sx socks5h://here:1080 http://db/", "hi from db\n", needs="web"
    ),
    "netkit proxy :1080 --allow 10.0.0.0/8 --auth-file users": serves(
        "there curl -sx socks5h://me:secret@here:1080 http://db/", "hi from db\n", needs="web"
    ),
    "netkit proxy :1080 --allow-target db:5432": serves(
        f"{SOCKS_TO_DB}; {DENIED.format('http://db/')}", "R.*Icurl: .*", needs="web,postgres"
    ),
    "netkit proxy :1080 --deny-target 10.0.0.0/8": serves(
        f"there curl -sx socks5h://here:1080 http://host/; {DENIED.format('http://db/')}",
        "hi from host\ncurl: .*",
        needs="web",
    ),
    "netkit proxy 0 -- sh -c 'curl -x socks5h://$NETKIT_ADDRESS http://db/'": Scene(
        "hi from db\n",
        needs="web",
        err="% Total",  # curl's progress meter
    ),
    "ssh -o ProxyCommand='nc -X 5 -x 127.0.0.1:1080 %h %p' host": Scene(
        "42\n", stdin="echo $((6*7))\n", needs="ssh,here socks"
    ),
    # -- udp-send, udp-serve
    "netkit udp-send host 5000 hello": Scene(needs="host 5000", asked="hello"),
    "netkit udp-send host 5000 --lines < words": Scene(needs="host 5000", asked="two"),
    "netkit udp-send host 5000 status --replies 1": Scene("status", needs="host 5000"),
    "netkit udp-send --replies 1 host 5000 status": Scene("status", needs="host 5000"),
    "netkit udp-send host 53 q --replies 1": Scene("q", needs="host 53"),
    "netkit udp-send log 514 '<14>deploy: done'": Scene(needs="syslog", asked="<14>deploy: done"),
    "netkit udp-send unix:/dev/log '<14>deploy: done'": Scene(needs="here log", asked="<14>deploy: done"),
    "netkit udp-send \"unix:$NOTIFY_SOCKET\" 'READY=1\\nSTATUS=serving'": Scene(
        before="export NOTIFY_SOCKET=@notify", needs="here notify", asked="STATUS=serving"
    ),
    "netkit udp-send localhost 8125 'hits:1|c'": Scene(needs="here 8125", asked=r"hits:1\|c"),
    "netkit udp-send --size 1400 --rate 50M host 9000 < file": Scene(needs="bulk", asked="data"),
    "tail -f app.log | netkit udp-send --lines log 514": Scene(code=CTRL_C, needs="syslog", asked="ready"),
    "tail -f app.log | netkit udp-send --lines --keep-going log 514": Scene(code=CTRL_C, needs="syslog", asked="ready"),
    "netkit udp-serve 5000": serves("echo hi | socat -u - UDP4:localhost:5000", out="hi\n"),
    "netkit udp-serve 5000 --exec cat": serves("netkit udp-send localhost 5000 hi --replies 1 --wait 20s", "hi"),
    "netkit udp-serve :514 --output lines": serves("printf hi | there socat -u - UDP4:here:514", out="hi\n"),
    "netkit udp-serve 0 --count 1 -- make test": Scene(TESTED),
    "netkit udp-serve :5000 --output hex | netkit udp-send --hex host 5000": serves(
        "printf hi | there socat -u - UDP4:here:5000", needs="host 5000", asked="hi"
    ),
    "netkit udp-serve 5000 --output hex | netkit udp-send --hex db 5000": serves(
        "printf hi | socat -u - UDP4:localhost:5000", needs="db 5000", asked="hi"
    ),
    "netkit udp-send --hex --replies 1 --output hex 9.9.9.9 53 "
    "<<< '1234 0100 0001 0000 0000 0000 0765 7861 6d70 6c65 036f 7267 00 0001 0001'": Scene(
        "1234[0-9a-f]*cb007104[0-9a-f]*\n", needs="nsd,dns"
    ),
    "netkit udp-send --any-source --replies 1 --output hex boot 69 '\\0\\x01pxelinux.0\\0octet\\0'": Scene(
        "0003000178\n", needs="tftp"
    ),
    "netkit udp-send 239.255.255.250 1900 --wait 3 --output lines 'M-SEARCH * HTTP/1.1\\r\\nHOST: "
    '239.255.255.250:1900\\r\\nMAN: "ssdp:discover"\\r\\nMX: 2\\r\\nST: ssdp:all\\r\\n\\r\\n\'': Scene(
        "HTTP/1.1 200 OK\r\n", needs="ssdp"
    ),
    "netkit pack 'hex mac mac mac mac mac mac mac mac mac mac mac mac mac mac mac mac' ffffffffffff $(for i in 1 2 3 4 "
    "5 6 7 8 9 10 11 12 13 14 15 16; do echo 52:54:00:12:34:56; done) "
    "| netkit udp-send --broadcast '<broadcast>' 9": Scene(needs="wake", asked="ffffffffffff(525400123456){16}"),
    # -- fetch
    "netkit fetch https://example.org/ | less": Scene("hi from example.org\n", needs="web"),
    "netkit fetch https://example.org/ -o page.html": Scene(
        "hi from example.org\n", needs="web", after="cat page.html"
    ),
    "netkit fetch -o big.iso --resume http://host/big.iso": Scene(
        "this is big.iso\n", before="printf this >big.iso", after="cat big.iso", needs="web", asked="range=bytes=4-"
    ),
    "netkit fetch --fail -o big.iso --resume http://host/big.iso": Scene(
        "this is big.iso\n", before="printf this >big.iso", after="cat big.iso", needs="web", asked="range=bytes=4-"
    ),
    "netkit fetch -O http://host/a.iso http://host/b.iso": Scene(
        "this is a.iso\nthis is b.iso\n", after="cat a.iso b.iso", needs="web"
    ),
    "netkit fetch --fail --max-size 1M http://host/version": Scene("this is version\n", needs="web"),
    "netkit fetch --wait 30s --fail http://localhost:8080/health": Scene("up\n", needs="here 8080"),
    "netkit fetch --unix-socket /run/app.sock http://localhost/": Scene("up\n", needs="here app"),
    "netkit fetch --unix-socket /run/app.sock http://localhost/status": Scene("up\n", needs="here app"),
    "netkit fetch --retry 5 -u me:secret --method PUT --data-file file http://host/file": Scene(
        "data\n", needs="web", asked="PUT /file .*user=me", after="netkit fetch http://host/file"
    ),
    "netkit fetch --method PUT --data-file file http://host/x": Scene("", needs="web", asked="PUT /x "),
    "netkit fetch --data-file file http://host/x": Scene("taken\n", needs="web", asked="POST /x "),
    "make report | netkit fetch --method PUT --data-file - http://host/report": Scene(
        "a report\n", needs="web", after="netkit fetch http://host/report"
    ),
    "netkit fetch --compressed -u me:secret http://host/": Scene(
        "hi from host\n", needs="web", asked="user=me encoding=gzip"
    ),
    "netkit fetch --compressed --resolve host:443:192.0.2.7 https://host/": Scene("hi from host\n", needs="web"),
    # -- resolve
    "netkit resolve example.org": Scene("203.0.113.4\n"),
    "netkit resolve 1.1.1.1": Scene("one.one.one.one\n"),
    "netkit resolve db --expect 10.0.0.5 --wait 60s": Scene("10.0.0.5\n"),
    "netkit resolve example.org --type MX": Scene("10 mail.example.org.\n", needs="nsd,dns"),
    "netkit resolve example.org --type MX --server tls:9.9.9.9": Scene("10 mail.example.org.\n", needs="nsd,dns"),
    "netkit resolve example.org --server 9.9.9.9": Scene("203.0.113.4\n", needs="nsd,dns"),
    "netkit resolve example.org --server tls:9.9.9.9": Scene("203.0.113.4\n", needs="nsd,dns"),
    "netkit resolve example.org --server https://dns.example/dns-query": Scene("203.0.113.4\n", needs="nsd,dns"),
    # -- portcheck
    "netkit portcheck db:5432 --wait 60s": Scene(DB, needs="postgres", err="1 of 1 ready"),
    "netkit portcheck db:5432 --wait 60s -- make test": Scene(DB + TESTED, needs="postgres", err="1 of 1 ready"),
    "netkit portcheck postgres://db": Scene(POSTGRES, needs="postgres"),
    "netkit portcheck redis://cache": Scene(REDIS, needs="redis"),
    "netkit portcheck mysql://db": Scene(open_port("db", "3306", "ready"), needs="mysql"),
    "netkit portcheck http://app/health --wait 30s": Scene(HEALTH, needs="web", err="1 of 1 ready"),
    "netkit portcheck postgres://db --wait 60s -- make test": Scene(
        POSTGRES + TESTED, needs="postgres", err="1 of 1 ready"
    ),
    "netkit portcheck postgres://db redis://cache --wait 60s -- make test": Scene(
        f"({POSTGRES}|{REDIS}){{2}}" + TESTED, needs="redis,postgres", err="2 of 2 ready"
    ),
    "netkit portcheck redis://cache http://app/health --wait 60s": Scene(
        f"({REDIS}|{HEALTH}){{2}}", needs="redis,web", err="2 of 2 ready"
    ),
    "netkit portcheck redis://cache http://app/health --wait 60s -- make test": Scene(
        f"({HEALTH}|{REDIS}){{2}}" + TESTED, needs="redis,web", err="2 of 2 ready"
    ),
    "netkit portcheck postgres://db redis://cache http://app:8080/health --wait 60s -- make test": Scene(
        f"({POSTGRES}|{REDIS}|{open_port('app', '8080')}){{3}}" + TESTED, needs="postgres,redis,web", err="3 of 3 ready"
    ),
    "netkit portcheck - --wait 60s < targets": Scene(
        f"({DB}|{open_port('cache', '6379')}){{2}}", needs="postgres,redis", err="2 of 2 ready"
    ),
    "netkit portcheck cache:6379 --send 'PING\\r\\n' --expect PONG": Scene(open_port("cache", "6379"), needs="redis"),
    "netkit portcheck app:80,443 db:5432": Scene(
        f".*{open_port('app', '80')}.*", needs="web,postgres", err="of 3 open"
    ),
    "netkit portcheck db:22,80,8000-8010 tls:db:443 --expires 30d": Scene(
        f".*{open_port('db', '80')}.*", needs="web", err="of 14 open"
    ),
    "netkit portcheck host 20-80": Scene(f"(.*\n)?{open_port('host', '80')}", needs="web", err="of 61 open"),
    "netkit portcheck host 1-65535": Scene(f"(.*\n)?{open_port('host', '80')}.*", needs="web", err="of 65535 open"),
    "netkit portcheck 10.0.0.0/24:22": Scene(open_port("10.0.0.5", "22"), needs="db ssh", err="1 of 256 open"),
    "netkit portcheck 10.0.0.0/24:22 --max-rate 200": Scene(
        open_port("10.0.0.5", "22"), needs="db ssh", err="1 of 256 open"
    ),
    "netkit portcheck tls:host:443 --expires 1d": Scene(open_port("host", "443", TLS), needs="web"),
    "netkit portcheck tls:example.org:443 --expires 30d": Scene(open_port("example.org", "443", TLS), needs="web"),
    "netkit portcheck mail:25 mail:587 --starttls smtp --expires 720h": Scene(
        f"({open_port('mail', '(25|587)', TLS)}){{2}}", needs="starttls"
    ),
    # -- sockets, address, services, free-port
    "netkit sockets": Scene("PROTO .*u_str .*/run/app.sock.*", needs="here app"),
    "netkit sockets --tcp": Scene(".*192.0.2.7:80 .*", needs="web", before="exec 3<>/dev/tcp/host/80"),
    "netkit sockets --tcp --udp --listening": Scene(".*:5000 .*", needs="here 5000"),
    "netkit sockets --unix --listening": Scene(".*/run/app.sock.*", needs="here app"),
    "netkit sockets --port 8080": Scene(".*:8080 .*", needs="here 8080"),
    "netkit sockets --listening --port 8080": Scene(".*:8080 .*", needs="here 8080"),
    "netkit sockets --port 5432 --json": Scene(
        '{.*"peer_port": 5432.*}\n', needs="postgres", before="exec 3<>/dev/tcp/db/5432"
    ),
    "netkit sockets --pid $(cat app.pid) --json": Scene(
        "{.*192.0.2.7.*}\n", needs="web", before="exec 3<>/dev/tcp/host/80; echo $$ >app.pid"
    ),
    "netkit sockets --tcp --state time-wait": Scene(
        ".*192.0.2.7:80 .*", needs="web", before="socat -t 10 - TCP:host:80 </dev/null"
    ),
    "netkit sockets --tcp --watch 2s": Scene(
        ".*192.0.2.7:80 .*", CTRL_C, needs="web", before="exec 3<>/dev/tcp/host/80"
    ),
    "netkit sockets --tcp --state established --watch 1s": Scene(
        ".*192.0.2.7:80 .*", CTRL_C, needs="web", before="exec 3<>/dev/tcp/host/80"
    ),
    "netkit address 10.1.2.3/8": Scene(
        "network\t10.0.0.0/8\n.*first\t10.0.0.0\nlast\t10.255.255.255\nsize\t16777216\n.*"
    ),
    "netkit address fe80::1%eth0": Scene("address\tfe80::1\nzone\teth0\nkind\tlink-local\n.*"),
    "netkit address 0177.1": Scene("spelling\tlegacy, for 127.0.0.1: .*"),
    "netkit services": Scene(".*\nhttps\t443/tcp\t\n.*"),
    "netkit services https": Scene("https\t443/tcp\t\nhttps\t443/udp\t\n"),
    "netkit services 53/udp": Scene("domain\t53/udp\t\n"),
    "netkit free-port": Scene(r"\d+\n"),
    "netkit free-port -n 3 --udp": Scene(r"(\d+\n){3}"),
    # -- pack, unpack
    "netkit pack '!HIB' 80 1 255 | netkit connect host 9000": Scene(
        needs="sink", asked="00500000001ff".replace("1ff", "01ff")
    ),
    "netkit pack 'u16:port u32le:seq ip str' 80 7 10.0.0.1 hello | netkit connect host 9000": Scene(
        needs="sink", asked="0050070000000a00000168656c6c6f"
    ),
    "netkit pack H 80 | netkit connect host 9000": Scene(needs="sink", asked="0050"),
    "netkit pack hex 0050 | netkit connect host 9000": Scene(needs="sink", asked="0050"),
    "netkit pack --hex 'u16:port u32le:seq ip str' 80 7 10.0.0.1 hi": Scene("0050070000000a0000016869\n"),
    "netkit pack --length u16 --lines < words": Scene("\0\3one\0\3two"),
    "netkit pack --show i 1234": Scene(".*\nlittle  d2 04 00 00 .*\nbig     00 00 04 d2 .*"),
    "netkit unpack 'u16:port ip:host' 0050 7f000001": Scene("80\t127.0.0.1\n"),
    "netkit unpack --json 'u16:port ip:host' 0050 7f000001": Scene(
        '{.*"values": {"port": 80, "host": "127.0.0.1"}.*}\n'
    ),
    "netkit connect time.example.org 37 | netkit unpack u32": Scene("3954550512\n", needs="time"),
    "netkit connect host 9001 | netkit unpack --repeat --length u16 str": Scene("hi\nyou\n", needs="records"),
    "netkit listen 9000 | netkit unpack --repeat --length u16 str": Scene(
        "hi\nyou\n", client=r"printf '\0\2hi\0\3you' | " + TCP.format("127.0.0.1:9000")
    ),
}
