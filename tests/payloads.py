"""What a record's text may try to do to a page, a spreadsheet or a log."""

from pathlib import Path


def payloads(target: Path) -> dict[str, str]:
    """By kind, text that would leave a file at `target`, run in a browser or a spreadsheet, or read a local file."""
    code = f"open('{target}', 'w').close()"
    return {
        "substitution": f"{{{{ cycler.__init__.__globals__.os.popen('touch {target}').read() }}}}",
        "substitution of one brace": f"a {{{{cycler.__init__.__globals__.__builtins__.eval({code!r})}}}} b",
        "block": f"a\n\n{{{{ cycler.__init__.__globals__.os.popen('touch {target}').read() }}}}\n\nb",
        "script": "<script>alert(1)</script>",
        "picture": '<img src="x" onerror="alert(1)">',
        "closed attribute": '"><script>alert(1)</script>',
        "link": "[here](javascript:alert(1))",
        "automatic link": "<javascript:alert(1)>",
        "markdown picture": "![a](https://example.org/a.png)",
        "reference": "[here][a]\n\n[a]: javascript:alert(1)",
        "raw role": "{raw-html}`<b>bold</b>`",
        "raw": "a\n\n```{raw} html\n<script>alert(1)</script>\n```\n",
        "include": "a\n\n```{include} /etc/hostname\n```\n",
        "include after colons": "a\n\n:::{include} /etc/hostname\n:::\n",
        "code cell": f"a\n\n```{{code-cell}} ipython3\n{code}\n```\n",
        "role": "{doc}`nowhere`",
        "attributes": "[a]{.admonition onclick=alert(1)}",
        "formula": "$\\href{javascript:alert(1)}{a}$ and $\\frac{$",
        "table": "a | b |\n| c | d |",
        "emphasis": "**bold** _leaning_ ~~gone~~ `code`",
        "heading": "# heading",
        "comment": "% hidden",
        "entity": "&lt;b&gt; &#123;",
        "backslash": "\\<b\\> \\",
        "code span": "`</code><script>alert(1)</script>",
        "spreadsheet": '=HYPERLINK("https://example.org")',
        "spreadsheet of a command": "=cmd|' /C calc'!A0",
        "spreadsheet with a plus": "+cmd|' /C calc'!A0",
        "spreadsheet with a minus": "-2+3+cmd|' /C calc'!A0",
        "spreadsheet with an at": "@SUM(1)",
        "spreadsheet behind a tab": "\t=1+1",
        "workflow command": "a\n::add-mask::a\n::error::a",
        "workflow command after a return": "a\r::set-output name=a::b",
        "terminal": "\x1b[2Ja",
        "shell": f"$(touch {target}); `touch {target}`",
        "right to left": "a\u202eb",
        "nul": "a\x00b",
        "long": "a" * 5000,
    }
