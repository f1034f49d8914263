"""The reference app as these measurements deploy it."""

# What may decide, as lines of [app.NAME.scale]: plain max; an objective; 70 % of what one replica can do; CPU; S3's own
# thresholds (90 % and 40 %, one step a minute); nothing; nothing, and HPA's rule from outside (see hpa.py).
POLICIES = {
    "max": "",
    "objective": 'objective = {{ p95 = "{objective_ms:.0f}ms" }}',
    "rps": "rps = {rps:.1f}",
    "cpu": "cpu = 0.7",
    "threshold": '[[app.{name}.scale.policy]]\nmetric = "threshold"\nof = "cpu"\nup = "90%"\ndown = "40%"\ncooldown = "{cooldown:.0f}s"',
    "fixed": None,
    "hpa": None,
}

IMAGE = 'image = "sc/matrix:0.1.0"\nport = 8080'
PROGRAM = "/usr/bin/sc-matrix"


def file(name, policy, maximum, slots, wait_ms, source=None, objective=0.5, cooldown=60.0, cpus=0.25, replicas=None):
    """An app file: bounded slots and some waiting in each request, as most web apps have. So replicas add capacity even
    where they share two cores. `source`: the lines that name its program, and the program's first words."""
    source, words = source or (IMAGE, [PROGRAM])
    rate = slots * 1_000.0 / (wait_ms + 2.0)
    line = POLICIES[policy]
    fixed = f"replicas = {replicas or maximum}"
    values = {"rps": 0.7 * rate, "objective_ms": 1e3 * objective, "cooldown": max(cooldown, 1.0), "name": name}
    scale = fixed if line is None else f"max = {maximum}\n{line.format(**values)}"
    command = ", ".join(f'"{word}"' for word in [*words, "--slots", str(slots), "--wait", str(wait_ms)])
    return f"""
[app.{name}]
{source}
command = [{command}]
[[app.{name}.route]]
host = "{name}.localhost"
[app.{name}.health]
http = "/healthz"
[app.{name}.resources]
cpus = {cpus}
[app.{name}.scale]
{scale}
"""
