"""Four worlds of small stories: the domains of experiments on mixtures and curricula."""

from llmlib.data.corpora.stories.story_world import END, StoryWorld, weighted

# Between scenes all worlds move alike, so that some of what is learnt in one helps in another.
_MOVES = {
    "meet": weighted("want:3 trouble:2"),
    "want": weighted("trouble:3 help:2"),
    "trouble": weighted("help:3 trouble:1 close:1"),
    "help": weighted("close:3 trouble:1"),
    "close": {END: 1.0},
}


def story_domains() -> dict[str, StoryWorld]:
    """Return four worlds that share their form, hardly a content word, and differ in entropy.

    `harbour` and `forest` have much choice, `workshop` less, and `ritual` nearly none: it is learnt
    from few stories, and a mixture that goes on feeding it wastes its tokens.

    Returns:
        The worlds by name.

    Example:
        >>> for name, world in story_domains().items():
        ...     print(f"{name:9} {world.mean_bytes:.0f} bytes, {world.bits_per_byte:.3f} bits each")
        harbour   249 bytes, 0.126 bits each
        forest    252 bytes, 0.131 bits each
        workshop  190 bytes, 0.104 bits each
        ritual    175 bytes, 0.034 bits each
    """
    return {world.name: world for world in (_harbour(), _forest(), _workshop(), _ritual())}


def _evenly(*sentences: str) -> dict[str, float]:
    return {sentence: 1 / len(sentences) for sentence in sentences}


def _harbour() -> StoryWorld:
    return StoryWorld(
        name="harbour",
        opening="In {town} a sailor called {hero} owned a {boat}.",
        slots={
            "town": weighted("Ardmel:4 Brusk:2 Corvey:2 Dunmarr Esk Farrow"),
            "hero": weighted("Ilse:4 Bram:3 Oda:2 Piet Ruan Tessa Wim Yara"),
            "boat": weighted("dinghy:3 cutter:2 barge:2 trawler ketch"),
        },
        fillers={
            "fish": weighted("herring:4 cod:3 eels:2 crabs mackerel sprats"),
            "sky": weighted("grey:3 clear:2 stormy:2 red"),
            "friend": weighted("pilot:3 diver:2 cook:2 warden smuggler"),
            "hour": weighted("dawn:3 noon dusk:2 midnight"),
        },
        scenes={
            "meet": _evenly(
                "At {hour} {hero} sailed out under a {sky} sky.",
                "On the quay of {town} {hero} met a {friend} at {hour}.",
                "The nets of the {boat} were full of {fish}.",
            ),
            "want": _evenly(
                "{hero} wished for more {fish} and less {fish}.",
                "Everyone in {town} wanted {fish} before {hour}.",
            ),
            "trouble": _evenly(
                "A {sky} wave struck the {boat} at {hour}.",
                "The {friend} had stolen the {fish}.",
                "Fog came over {town} and {hero} lost the way.",
            ),
            "help": _evenly(
                "A {friend} threw {hero} a rope.",
                "The {friend} of {town} lit the lamp for the {boat}.",
            ),
            "close": _evenly(
                "{hero} came home to {town} and fried the {fish}.",
                "That night the {boat} slept under a {sky} sky.",
            ),
        },
        moves=_MOVES,
        first="meet",
    )


def _forest() -> StoryWorld:
    return StoryWorld(
        name="forest",
        opening="Deep in the {wood} lived {hero} the {animal}.",
        slots={
            "wood": weighted("pinewood:3 birchwood:2 thicket:2 grove marsh"),
            "hero": weighted("Nib:3 Fenn:2 Tuck:2 Moss Sorrel Bracken Lark Quill"),
            "animal": weighted("hedgehog:3 badger:2 marten:2 owl toad stoat"),
        },
        fillers={
            "food": weighted("acorns:3 berries:3 beetles:2 mushrooms honey roots"),
            "season": weighted("spring summer autumn:2 winter:2"),
            "danger": weighted("wolf:3 hunter:2 lynx:2 flood"),
            "helper": weighted("wren:3 mole:2 beaver:2 heron squirrel"),
        },
        scenes={
            "meet": _evenly(
                "Every {season} {hero} gathered {food} beneath the leaves.",
                "One {season} morning a {helper} called upon the {animal}.",
                "No other {animal} knew the {wood} better.",
            ),
            "want": _evenly(
                "{hero} dreamt about {food} until {season}.",
                "There were no {food} left, only {food}.",
            ),
            "trouble": _evenly(
                "Suddenly a {danger} crept through the {wood}.",
                "{hero} dropped the {food} when the {danger} howled.",
                "That {season} every path was frozen or burnt.",
            ),
            "help": _evenly(
                "The {helper} showed {hero} a hollow oak.",
                "A {helper} frightened the {danger} away.",
            ),
            "close": _evenly(
                "Since then {hero} shares {food} with any {helper}.",
                "And so {season} returned into the {wood}.",
            ),
        },
        moves=_MOVES,
        first="meet",
    )


def _workshop() -> StoryWorld:
    return StoryWorld(
        name="workshop",
        opening="Master {hero} builds a {machine} using {metal}.",
        slots={
            "hero": weighted("Anselm:3 Berta:2 Cosimo Dorit"),
            "machine": weighted("clock:3 loom:2 press pump"),
            "metal": weighted("brass:2 iron:2 copper"),
        },
        fillers={
            "part": weighted("wheel:3 spring:2 lever:2 valve"),
            "tool": weighted("file:2 hammer:2 lathe"),
            "count": weighted("two:3 three:2 seven"),
        },
        scenes={
            "meet": _evenly(
                "It needs {count} parts: each {part} is {metal}.",
                "First {hero} takes the {tool}.",
            ),
            "want": _evenly("This {machine} should run {count} years."),
            "trouble": _evenly(
                "But one {part} breaks.",
                "But {metal} bends under this {tool}.",
            ),
            "help": _evenly("An apprentice brings {count} spare ones.", "Oil frees that {part}."),
            "close": _evenly("Now {hero} starts this {machine}."),
        },
        moves=_MOVES,
        first="meet",
    )


def _ritual() -> StoryWorld:
    return StoryWorld(
        name="ritual",
        opening="Hail {hero}, keeper of our {flame}.",
        slots={"hero": weighted("Aum:9 Oum"), "flame": weighted("ember:9 candle")},
        fillers={"times": weighted("thrice:9 twice")},
        scenes={
            "meet": _evenly("We bow {times} before {hero}."),
            "want": _evenly("Grant us light, {hero}, grant us warmth."),
            "trouble": _evenly("Darkness, leave our {flame} alone."),
            "help": _evenly("Sing {times}, sing for our {flame}."),
            "close": _evenly("Hail {hero}, hail, hail."),
        },
        moves=_MOVES,
        first="meet",
    )
