"""Makes tables, figures and sentences from records. An exhibit is declared once, in its section's file, and shown by its name.

page = report.page(globals())    # a notebook's parameters, checked
page.show("table-2")             # reads its records, or computes them where a scale is named
"""

from importlib import import_module
from pkgutil import iter_modules

from lib.report import sections
from lib.report.exhibit import EXHIBITS, Exhibit, Page, page, show

__all__ = ["EXHIBITS", "Exhibit", "Page", "page", "show"]

for _section in iter_modules(sections.__path__):
    import_module(f"{sections.__name__}.{_section.name}")
