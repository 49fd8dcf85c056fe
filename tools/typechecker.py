"""What checks annotations while the tests run: beartype, with whole numbers taken for floats."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
