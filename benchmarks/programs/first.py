"""One call of a function, after one of another that has the connections made.

    first.py WARM FUNCTION

Prints the milliseconds of the call, or null if it had no right answer.
"""

from __future__ import annotations

import json
import sys
import time

import funker

#: Seconds: a node that starts nothing within this time won't.
PATIENCE_S = 60.0
#: Seconds for which the machine gets over the first call.
CALM_S = 1.0


def main(warm: str, function: str) -> None:
    funker.call(warm, x=1, y=2)
    time.sleep(CALM_S)
    began = time.perf_counter()
    try:
        answer = funker.function(function, deadline=PATIENCE_S)(x=1, y=2)
    except funker.CallError as error:
        print(error, file=sys.stderr)
        answer = None
    took = (time.perf_counter() - began) * 1000
    print(json.dumps(took if answer == 3 else None))


if __name__ == "__main__":
    main(*sys.argv[1:])
