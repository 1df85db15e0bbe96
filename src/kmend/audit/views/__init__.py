"""An audit's report for other programs and for people: SARIF, JUnit, Markdown, a page."""
