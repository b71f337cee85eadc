"""The bench suite: what a token costs, and how that compares with a byte proxy.

    python -m bench              the end-to-end suite, with nginx beside the relay in the same run
    tox -e bench                 the micro suite (``test_*.py``), compared with the base saved on this machine

Layout:

    loads        the table of loads, each a list of cells: who is asked, over what, with which upstream
    suite        runs cells, adds ratios and verdicts, sums up runs
    processes    the demo, the relay, nginx and LiteLLM as children that end with us
    proc         CPU time and memory of a process, as Linux counts them
    generator    the load generator: a process of its own that takes jobs as lines and answers with numbers
    clients      its connections: they scan for byte patterns and never parse JSON
    requests     what they send
    report, plots                the table, JSON, README.md; SVG
    profile      where the relay's time goes during one load
    data         seeded data of the micro suite
"""
