"""The results of a port check as JSON Lines, an object for each port."""

from netkit.core.port_names import name_of
from netkit.core.units import milliseconds
from netkit.output.jsonl import family_name, octets, record
from netkit.output.portcheck.writer import Writer
from netkit.services.portcheck.check import Result


class Json(Writer):
    """An object for each port as it is known."""

    def write(self, result: Result) -> str:
        probe = result.probe
        secured = probe.secured.values() if probe.secured else {}
        fields = {
            "host": result.host,
            "port": result.port,
            "protocol": result.protocol,
            "address": probe.address,
            "family": probe.address and family_name(probe.address),
            "state": probe.state,
            "time_ms": None if probe.seconds is None else milliseconds(probe.seconds),
            "reason": probe.reason or None,
            "service": name_of(result.port, result.protocol),
            "exit_code": int(probe.exit),
            "tls": {key: value for key, value in secured.items() if value} or None,
            **(octets(probe.data) if probe.data is not None else {}),
        }
        return record("port", "portcheck", **fields) + "\n"
