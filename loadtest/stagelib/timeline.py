"""A run as an SVG: requests per second above, replicas below."""

WIDTH, HEIGHT, LEFT, RIGHT = 900, 190, 60, 20


def svg(title, answers, seen, marks=()):
    """`marks`: times and names of what began then."""
    begin, end = seen[0].at, seen[-1].at
    across = lambda at: LEFT + (WIDTH - LEFT - RIGHT) * (at - begin) / max(end - begin, 1e-9)
    rates = rate(answers, begin, end)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{2 * HEIGHT + 50}" font-family="sans-serif" font-size="12">',
        f'<rect width="100%" height="100%" fill="white"/><text x="{LEFT}" y="20" font-size="15">{title}</text>',
    ]
    for at, name in marks:
        x = across(at)
        parts.append(f'<path d="M{x:.1f} 30V{2 * HEIGHT + 20}" stroke="#ccc"/><text x="{x + 3:.1f}" y="42" fill="#666">{name}</text>')
    parts += panel("requests/s", 30, max((r for _, r in rates), default=1), [(rates, "#3567a8")], across)
    wanted = [(look.at, look.want) for look in seen]
    ready = [(look.at, look.ready) for look in seen]
    top = max(n for _, n in wanted + ready)
    parts += panel("replicas: wanted (grey), ready", 30 + HEIGHT, top, [(wanted, "#aaa"), (ready, "#c0392b")], across)
    parts.append(f'<text x="{LEFT}" y="{2 * HEIGHT + 42}">0 s</text><text x="{WIDTH - RIGHT}" y="{2 * HEIGHT + 42}" text-anchor="end">{end - begin:.0f} s</text></svg>')
    return "\n".join(parts) + "\n"


def panel(name, above, top, lines, across):
    height = HEIGHT - 45
    base, up = above + height + 25, height / max(top, 1e-9)
    parts = [
        f'<text x="{LEFT}" y="{above + 20}" fill="#444" dy="4">{name}</text>',
        f'<path d="M{LEFT} {base}H{WIDTH - RIGHT}" stroke="#444"/>',
        f'<text x="{LEFT - 6}" y="{base}" text-anchor="end">0</text><text x="{LEFT - 6}" y="{base - height + 6}" text-anchor="end">{top:g}</text>',
    ]
    for points, colour in lines:
        steps = "".join(f"H{across(at):.1f}V{base - up * value:.1f}" for at, value in points)
        parts.append(f'<path d="M{LEFT} {base}{steps}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    return parts


def rate(answers, begin, end, width=1.0):
    """Requests per second, by the second."""
    counts = [0] * (int((end - begin) / width) + 1)
    for answer in answers:
        if begin <= answer.at < end:
            counts[int((answer.at - begin) / width)] += 1
    return [(begin + (place + 1) * width, count / width) for place, count in enumerate(counts[:-1])]
