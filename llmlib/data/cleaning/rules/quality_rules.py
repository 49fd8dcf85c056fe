"""Rules that tell hardly prose from text worth training on, by one document alone."""

from dataclasses import dataclass

from llmlib.data.corpora.units import text_bytes, with_line_feeds


@dataclass(frozen=True, kw_only=True)
class QualityRules:
    """Bounds outside which a document is not worth training on.

    The defaults suit documentation and prose: of the fixed corpus they drop about a twentieth of
    the documents and less than a hundredth of the bytes. For source code, lower `min_letters`.
    """

    min_bytes: int = 32
    """Fewest UTF-8 bytes; shorter texts are labels, not sentences."""
    min_letters: float = 0.45
    """Smallest share of letters among the characters that are not white space; tables, formulas
    and rulers lie below."""
    max_example_lines: float = 0.7
    """Largest share of lines that are input to an interpreter (`>>>`, `...`)."""
    max_repeated_lines: float = 0.4
    """Largest share of lines that repeat an earlier line of the document."""
    max_line_bytes: int = 2000
    """Longest line; data written as text lies above."""

    def reason(self, text: str) -> str | None:
        """Name the first rule that a text breaks, in words; None if it breaks none.

        Example:
            >>> QualityRules().reason("=" * 50)
            'few letters'
            >>> QualityRules().reason("Return the number of nodes in the graph.") is None
            True
        """
        if text_bytes(text) < self.min_bytes:
            return "short"
        visible = "".join(text.split())
        if sum(map(str.isalpha, visible)) < self.min_letters * len(visible) or not visible:
            return "few letters"
        lines = [line for line in map(str.strip, with_line_feeds(text).split("\n")) if line]
        examples = sum(line.startswith((">>>", "...")) for line in lines)
        if examples > self.max_example_lines * len(lines):
            return "mostly examples"
        if len(lines) - len(set(lines)) > self.max_repeated_lines * len(lines):
            return "repeated lines"
        if max(map(text_bytes, lines)) > self.max_line_bytes:
            return "long lines"
        return None
