def rows_between_machines(chosen, experts_each, machine):
    """Count foreign machines, with and without repetition."""
    apart = once = 0
    for process, tokens in enumerate(chosen):
        home = process // machine
        for experts in tokens:
            places = [expert // experts_each // machine for expert in experts]
            foreign = [place for place in places if place != home]
            apart += len(foreign)
            once += len(set(foreign))
    return apart, once
