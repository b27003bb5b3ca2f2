"""What every test can rely on."""

import os
import signal

# In the background of a shell SIGINT is ignored, and under nohup SIGHUP. What is ignored stays so: our processes must
# not inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# The tests start netkit hundreds of times; without its compiled modules each start would compile them anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
