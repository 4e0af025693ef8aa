"""Failures of code that is not ours: environments, and modules that register them."""

import dis
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager


class Failures(AbstractContextManager[None]):
    """Context that turns whatever code raises into an error of ours, except what a signal to this process raised.

    An environment may raise KeyboardInterrupt or SystemExit itself. Passed on, it would look as if the user had
    stopped the program. (A class, because generators cannot replace StopIteration.)

    Args:
        error_of: Returns the error to raise instead of another, perhaps the same.
        then: Called at the end if nothing was raised.
    """

    def __init__(self, error_of: Callable[[BaseException], Exception], then: Callable[[], None] = lambda: None) -> None:
        self.error_of, self.then = error_of, then

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is None:
            self.then()
        elif isinstance(error, Exception | KeyboardInterrupt | SystemExit) and not is_of_signal(error):
            instead = self.error_of(error)
            if instead is not error:
                raise instead from error


def is_of_signal(error: BaseException) -> bool:
    """Return whether the handler of a signal raised an error, and not the code that the signal interrupted."""
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    codes = {getattr(handler, "__code__", None) for handler in handlers} - {None}
    trace, innermost = error.__traceback__, None
    while trace is not None:
        if trace.tb_frame.f_code in codes:
            return True
        trace, innermost = trace.tb_next, trace
    may_be = isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not may_be or innermost is None:
        return False
    # Python's own handler has no frame: the trace ends at any instruction but one that raises.
    instruction = dis.opname[innermost.tb_frame.f_code.co_code[innermost.tb_lasti]]
    return not instruction.startswith(("RAISE", "RERAISE"))
