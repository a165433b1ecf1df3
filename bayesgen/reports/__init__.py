"""Reports: a result, its figures and how it was made, on one HTML page that needs nothing else."""

from bayesgen.reports.blocks import Block, Cautions, Facts, Picture, Prose, Section, TableBlock
from bayesgen.reports.page import html

__all__ = ["Block", "Cautions", "Facts", "Picture", "Prose", "Section", "TableBlock", "html"]
