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

    Example:
        >>> for name, world in story_domains().items():
        ...     print(f"{name:9} {world.mean_bytes:.0f} bytes, {world.bits_per_byte:.3f} bits each")
        harbour   249 bytes, 0.126 bits each
        forest    252 bytes, 0.131 bits each
        workshop  190 bytes, 0.104 bits each
        ritual    175 bytes, 0.034 bits each
    """
    return {world.name: world for world in (_harbour(), _forest(), _workshop(), _ritual())}


def _world(
    name: str, opening: str, *, slots: dict[str, str], fillers: dict[str, str], **scenes: list[str]
) -> StoryWorld:
    return StoryWorld(
        name=name,
        opening=opening,
        slots={slot: weighted(words) for slot, words in slots.items()},
        fillers={gap: weighted(words) for gap, words in fillers.items()},
        scenes={
            scene: {sentence: 1 / len(sentences) for sentence in sentences}
            for scene, sentences in scenes.items()
        },
        moves=_MOVES,
        first="meet",
    )


def _harbour() -> StoryWorld:
    return _world(
        "harbour",
        "In {town} a sailor called {hero} owned a {boat}.",
        slots={
            "town": "Ardmel:4 Brusk:2 Corvey:2 Dunmarr Esk Farrow",
            "hero": "Ilse:4 Bram:3 Oda:2 Piet Ruan Tessa Wim Yara",
            "boat": "dinghy:3 cutter:2 barge:2 trawler ketch",
        },
        fillers={
            "fish": "herring:4 cod:3 eels:2 crabs mackerel sprats",
            "sky": "grey:3 clear:2 stormy:2 red",
            "friend": "pilot:3 diver:2 cook:2 warden smuggler",
            "hour": "dawn:3 noon dusk:2 midnight",
        },
        meet=[
            "At {hour} {hero} sailed out under a {sky} sky.",
            "On the quay of {town} {hero} met a {friend} at {hour}.",
            "The nets of the {boat} were full of {fish}.",
        ],
        want=[
            "{hero} wished for more {fish} and less {fish}.",
            "Everyone in {town} wanted {fish} before {hour}.",
        ],
        trouble=[
            "A {sky} wave struck the {boat} at {hour}.",
            "The {friend} had stolen the {fish}.",
            "Fog came over {town} and {hero} lost the way.",
        ],
        help=[
            "A {friend} threw {hero} a rope.",
            "The {friend} of {town} lit the lamp for the {boat}.",
        ],
        close=[
            "{hero} came home to {town} and fried the {fish}.",
            "That night the {boat} slept under a {sky} sky.",
        ],
    )


def _forest() -> StoryWorld:
    return _world(
        "forest",
        "Deep in the {wood} lived {hero} the {animal}.",
        slots={
            "wood": "pinewood:3 birchwood:2 thicket:2 grove marsh",
            "hero": "Nib:3 Fenn:2 Tuck:2 Moss Sorrel Bracken Lark Quill",
            "animal": "hedgehog:3 badger:2 marten:2 owl toad stoat",
        },
        fillers={
            "food": "acorns:3 berries:3 beetles:2 mushrooms honey roots",
            "season": "spring summer autumn:2 winter:2",
            "danger": "wolf:3 hunter:2 lynx:2 flood",
            "helper": "wren:3 mole:2 beaver:2 heron squirrel",
        },
        meet=[
            "Every {season} {hero} gathered {food} beneath the leaves.",
            "One {season} morning a {helper} called upon the {animal}.",
            "No other {animal} knew the {wood} better.",
        ],
        want=[
            "{hero} dreamt about {food} until {season}.",
            "There were no {food} left, only {food}.",
        ],
        trouble=[
            "Suddenly a {danger} crept through the {wood}.",
            "{hero} dropped the {food} when the {danger} howled.",
            "That {season} every path was frozen or burnt.",
        ],
        help=[
            "The {helper} showed {hero} a hollow oak.",
            "A {helper} frightened the {danger} away.",
        ],
        close=[
            "Since then {hero} shares {food} with any {helper}.",
            "And so {season} returned into the {wood}.",
        ],
    )


def _workshop() -> StoryWorld:
    return _world(
        "workshop",
        "Master {hero} builds a {machine} using {metal}.",
        slots={
            "hero": "Anselm:3 Berta:2 Cosimo Dorit",
            "machine": "clock:3 loom:2 press pump",
            "metal": "brass:2 iron:2 copper",
        },
        fillers={
            "part": "wheel:3 spring:2 lever:2 valve",
            "tool": "file:2 hammer:2 lathe",
            "count": "two:3 three:2 seven",
        },
        meet=[
            "It needs {count} parts: each {part} is {metal}.",
            "First {hero} takes the {tool}.",
        ],
        want=["This {machine} should run {count} years."],
        trouble=[
            "But one {part} breaks.",
            "But {metal} bends under this {tool}.",
        ],
        help=["An apprentice brings {count} spare ones.", "Oil frees that {part}."],
        close=["Now {hero} starts this {machine}."],
    )


def _ritual() -> StoryWorld:
    return _world(
        "ritual",
        "Hail {hero}, keeper of our {flame}.",
        slots={"hero": "Aum:9 Oum", "flame": "ember:9 candle"},
        fillers={"times": "thrice:9 twice"},
        meet=["We bow {times} before {hero}."],
        want=["Grant us light, {hero}, grant us warmth."],
        trouble=["Darkness, leave our {flame} alone."],
        help=["Sing {times}, sing for our {flame}."],
        close=["Hail {hero}, hail, hail."],
    )
