"""What every run tells: what was late, what it cost, and how long from too much load to another replica that serves."""

from . import load, watch


def run(answers, seen, objective):
    """The line that all runs have in common."""
    late = [answer for answer in answers if answer.late(objective)]
    failed = sum(answer.status != 200 for answer in answers)
    times = [1e3 * answer.seconds for answer in answers]
    quantiles = ", ".join(f"p{name} {load.percentile(times, share):.0f} ms" for name, share in (("50", 0.5), ("95", 0.95), ("99", 0.99)))
    return "\n".join([
        f"{len(answers)} requests, {100 * len(late) / max(len(answers), 1):.2f} % violations (over {1e3 * objective:.0f} ms or failed; "
        f"{failed} failed); {quantiles}",
        f"{watch.replica_seconds(seen):.0f} replica-seconds, at most {max(look.want for look in seen)} wanted",
        rises(seen),
    ])


def rises(seen):
    """How long from the decision to as many replicas serving."""
    took = [rise.seconds for rise in watch.rises(seen) if rise.seconds is not None]
    if not took:
        return "no rise"
    return f"{len(took)} rises, from the decision to as many serving: median {load.percentile(took, 0.5):.1f} s, slowest {max(took):.1f} s"


def overload(seen, at):
    """From too much load beginning at this time to the decision, and to another replica that serves."""
    first = next((rise for rise in watch.rises(seen) if rise.at >= at), None)
    before = next((look.ready for look in reversed(seen) if look.at <= at), 0)
    serving = next((look.at - at for look in seen if first and look.at >= first.at and look.ready > before), None)
    say = lambda seconds: "never" if seconds is None else f"{seconds:.1f} s"
    return f"from too much load to the decision {say(first and first.at - at)}, to a new replica serving {say(serving)}"


def shortages(begin, rates, seen, each):
    """How long there was too little for a load that is known by the second: from more than the ready replicas take at `each` to
    enough that serve it."""
    lasted, since = [], None
    for look in seen:
        second = int(look.at - begin)
        if not 0 <= second < len(rates):
            continue
        if rates[second] <= look.ready * each:
            lasted += [look.at - since] if since is not None else []
            since = None
        elif since is None:
            since = look.at
    open_end = "" if since is None else ", one to the end"
    if not lasted:
        return f"never too few replicas for the load{open_end}"
    return (
        f"{len(lasted)} times too few replicas for the load{open_end}, until enough served: median {load.percentile(lasted, 0.5):.1f} s, "
        f"slowest {max(lasted):.1f} s"
    )
