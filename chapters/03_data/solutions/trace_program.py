def trace_program(lines: list[str]) -> list[str]:
    """Return what each line of a small program leads to, as the comment beside it would say."""
    holds: dict[str, str] = {}
    comments = []
    for line in lines:
        name, operator, right = line.split()
        value = holds.get(right, right.strip("'"))
        if operator == "+=":
            value = str(int(holds[name]) + int(value))
        elif operator == "-=":
            value = str(int(holds[name]) - int(value))
        holds[name] = value
        comments.append(value)
    return comments
