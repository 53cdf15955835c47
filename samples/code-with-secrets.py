import boto3

client = boto3.client("s3", aws_access_key_id="AKIAZ3VQ7JRTLWXK5P2D")
DATABASE = "postgres://app:s3cr3tPw9@db.intern:5432/orders"
