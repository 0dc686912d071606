"""What is counted: the definitions once, cheap samples in each service, families at the scrape."""
