"""The report: one HTML file that shows a results folder in any browser, without a server or a network."""
