"""The tables of the survey, read and checked."""
