"""What every test can rely on."""

import os
import signal

# In the background of a shell SIGINT is ignored, and what ignores it stays so: our processes must not inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The tests start netkit hundreds of times; without its compiled modules each start would compile them anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
