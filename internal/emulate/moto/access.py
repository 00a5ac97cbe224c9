"""Gives access in moto as access.go describes, with boto3, prints the keys as JSON, and then switches enforcement on."""

import json
import sys
import urllib.request

import boto3

endpoint, task = sys.argv[1], json.loads(sys.argv[2])


def client(service, credentials=None):
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    if credentials:
        keys = {"aws_access_key_id": credentials["AccessKeyId"], "aws_secret_access_key": credentials["SecretAccessKey"],
                "aws_session_token": credentials["SessionToken"]}
    return boto3.client(service, region_name="us-east-1", endpoint_url=endpoint, **keys)


iam = client("iam")
out = {"accounts": [], "users": []}
if task["accounts"]:
    organizations = client("organizations")
    organizations.create_organization(FeatureSet="ALL")
    for account in task["accounts"]:
        made = organizations.create_account(AccountName=account["name"], Email=account["name"] + "@example.com")["CreateAccountStatus"]
        out["accounts"].append(made["AccountId"])
        if not account["role"]:
            continue
        inside = client("sts").assume_role(RoleArn=f"arn:aws:iam::{made['AccountId']}:role/setup", RoleSessionName="setup")["Credentials"]
        member = client("iam", inside)
        member.create_role(RoleName=task["role"], AssumeRolePolicyDocument="{}")
        member.put_role_policy(RoleName=task["role"], PolicyName="read", PolicyDocument=json.dumps(task["policies"][0]))
    here = client("sts").get_caller_identity()["Account"]
    out["management"] = here
for n, policy in enumerate(task["policies"]):
    name = f"auditor-{n}"
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="read", PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    out["users"].append({"id": key["AccessKeyId"], "secret": key["SecretAccessKey"]})
urllib.request.urlopen(urllib.request.Request(
    endpoint + "/moto-api/reset-auth", data=b"0", headers={"Content-Type": "text/plain"}, method="POST"))
print(json.dumps(out))
