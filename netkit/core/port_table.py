"""A table of well-known ports for machines without /etc/services: IANA's names, and common aliases."""

# The format of services(5), but with several rows in a line.
TABLE = """
tcpmux 1/tcp | rje 5/tcp,udp | echo 7/tcp,udp | discard 9/tcp,udp sink null | systat 11/tcp users
daytime 13/tcp,udp | qotd 17/tcp quote | chargen 19/tcp,udp ttytst source | ftp-data 20/tcp | ftp 21/tcp
ssh 22/tcp | telnet 23/tcp | smtp 25/tcp mail | time 37/tcp,udp timserver | nameserver 42/tcp,udp
whois 43/tcp nicname | tacacs 49/tcp,udp | domain 53/tcp,udp dns | bootps 67/udp | bootpc 68/udp | tftp 69/udp
gopher 70/tcp | finger 79/tcp | http 80/tcp www | kerberos 88/tcp,udp kerberos5 krb5 kerberos-sec
iso-tsap 102/tcp tsap | acr-nema 104/tcp dicom | pop2 109/tcp | pop3 110/tcp pop-3 | sunrpc 111/tcp,udp portmapper
auth 113/tcp authentication tap ident | nntp 119/tcp readnews untp | ntp 123/udp | epmap 135/tcp,udp loc-srv
netbios-ns 137/tcp,udp | netbios-dgm 138/tcp,udp | netbios-ssn 139/tcp,udp | imap2 143/tcp imap imap4 | snmp 161/tcp,udp
snmp-trap 162/tcp,udp snmptrap | xdmcp 177/udp | bgp 179/tcp | irc 194/tcp,udp | smux 199/tcp | ipx 213/udp
mpp 218/tcp,udp | imap3 220/tcp | clearcase 371/udp | ldap 389/tcp,udp | svrloc 427/tcp,udp slp | https 443/tcp,udp
snpp 444/tcp | microsoft-ds 445/tcp,udp | kpasswd 464/tcp,udp | submissions 465/tcp ssmtp smtps urd | isakmp 500/udp
exec 512/tcp | biff 512/udp comsat | login 513/tcp | who 513/udp whod | shell 514/tcp cmd syslog-tcp
syslog 514/udp | printer 515/tcp spooler | talk 517/udp | ntalk 518/udp | route 520/udp router routed
dhcpv6-client 546/udp | dhcpv6-server 547/udp | afpovertcp 548/tcp | rtsp 554/tcp,udp | nntps 563/tcp snntp
submission 587/tcp | ipp 631/tcp,udp | ldaps 636/tcp,udp | ldp 646/tcp,udp | kerberos-adm 749/tcp
domain-s 853/tcp,udp | rsync 873/tcp | ftps-data 989/tcp | ftps 990/tcp | telnets 992/tcp | imaps 993/tcp
pop3s 995/tcp | socks 1080/tcp | openvpn 1194/tcp,udp | ms-sql-s 1433/tcp | ms-sql-m 1434/udp | ingreslock 1524/tcp
datametrics 1645/tcp,udp old-radius | radius 1812/tcp,udp | radius-acct 1813/tcp,udp radacct | mqtt 1883/tcp
ssdp 1900/udp | nfs 2049/tcp,udp | etcd-client 2379/tcp | etcd-server 2380/tcp | iscsi-target 3260/tcp
mysql 3306/tcp | ms-wbt-server 3389/tcp,udp rdp | nut 3493/tcp | stun 3478/tcp,udp turn | daap 3689/tcp
svn 3690/tcp subversion | epmd 4369/tcp | ipsec-nat-t 4500/udp | iax 4569/udp | vxlan 4789/udp
radmin-port 4899/tcp | sip 5060/tcp,udp | sip-tls 5061/tcp,udp | xmpp-client 5222/tcp jabber-client
xmpp-server 5269/tcp jabber-server | cfengine 5308/tcp | stuns 5349/tcp turns | mdns 5353/udp | llmnr 5355/tcp,udp
postgresql 5432/tcp postgres | rfb 5900/tcp vnc | amqps 5671/tcp | amqp 5672/tcp | coap 5683/udp | wsman 5985/tcp
x11 6000/tcp x11-0 | redis 6379/tcp | ircd 6667/tcp | ircs-u 6697/tcp | bacula-dir 9101/tcp | bacula-fd 9102/tcp
bacula-sd 9103/tcp | font-service 7100/tcp xfs | http-alt 8080/tcp webcache | puppet 8140/tcp
secure-mqtt 8883/tcp mqtts | kafka 9092/tcp | git 9418/tcp | zabbix-agent 10050/tcp | zabbix-trapper 10051/tcp
memcache 11211/tcp,udp memcached | mongodb 27017/tcp
""".replace(" | ", "\n")
