"""What every test can rely on."""

import signal

# In the background of a shell SIGINT is ignored, and what ignores it stays so: our processes must not inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
