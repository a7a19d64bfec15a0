"Programs that tests interrupt take Ctrl-C, also where a shell runs the tests in the background."
import signal

signal.signal(signal.SIGINT, signal.default_int_handler)
