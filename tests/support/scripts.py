"""What the shells of tests' jobs run."""


def lasting(script: str) -> str:
    """The script, in a shell that lives 0.15 s longer, and ends with its exit code.

    Of a container that lives for milliseconds, Docker loses all output if the processor of one of its threads is taken
    away for longer than that: see "When output is complete" in docs/guarantees.md. Virtual machines do that for 0.1 s.
    """
    return script if script == "true" else f"trap 'sleep 0.15' EXIT; {script}"  # `true` writes nothing
