"""What a CloudFormation template costs, alone or with a file that says how much it is used."""
