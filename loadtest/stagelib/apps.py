"""The reference app as these measurements deploy it."""

# What may decide, as a line of [app.NAME.scale]: plain max; 70 % of what one replica can do; CPU; nothing.
POLICIES = {
    "max": "",
    "rps": "rps = {rps:.1f}",
    "cpu": "cpu = 0.7",
    "fixed": None,
}


def file(name, policy, maximum, slots, wait_ms):
    """An app file: bounded slots and some waiting in each request, as most web apps have. So replicas add capacity even
    where they share two cores."""
    rate = slots * 1_000.0 / (wait_ms + 2.0)
    line = POLICIES[policy]
    scale = f"replicas = {maximum}" if line is None else f'max = {maximum}\n{line.format(rps=0.7 * rate)}'
    return f"""
[app.{name}]
image = "sc/matrix:0.1.0"
port = 8080
command = ["/usr/bin/sc-matrix", "--slots", "{slots}", "--wait", "{wait_ms}"]
[[app.{name}.route]]
host = "{name}.localhost"
[app.{name}.health]
http = "/healthz"
[app.{name}.resources]
cpus = 0.25
[app.{name}.scale]
{scale}
"""
