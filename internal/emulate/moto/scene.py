"""Builds the scene of scene.go in moto, with boto3, and prints what is where as JSON."""

import json
import sys

import boto3
from botocore.config import Config

endpoint = sys.argv[1]
PORT = 11211
ANY = [{"CidrIp": "0.0.0.0/0"}]


def client(region):
    return boto3.client("ec2", region_name=region, endpoint_url=endpoint, aws_access_key_id="testing",
                        aws_secret_access_key="testing", config=Config(retries={"max_attempts": 2}))


def permission(protocol, start=None, end=None, **source):
    p = {"IpProtocol": protocol, **(source or {"IpRanges": ANY})}
    if start is not None:
        p.update(FromPort=start, ToPort=end)
    return p


class Scene:
    def __init__(self, region):
        self.ec2, self.region, self.cases = client(region), region, []
        self.image = self.ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]

    def group(self, name, vpc, permissions):
        """Makes a group with the rules and returns its id and the ids of the rules."""
        group = self.ec2.create_security_group(GroupName=name, Description=name, VpcId=vpc)["GroupId"]
        rules = self.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=permissions)["SecurityGroupRules"]
        return group, [r["SecurityGroupRuleId"] for r in rules]

    def case(self, name, vpc, subnet, permissions, public=True, ipv6=False, opens="", latent=False):
        """Makes an instance behind a group of its own; opens says what of it the internet reaches, such as "v4.tcp"."""
        case = {"name": name, "region": self.region, "opens": opens.split(), "latent": latent, "interface": ""}
        group, case["rules"] = self.group(name, vpc, permissions)
        if subnet:
            instance = self.ec2.run_instances(
                ImageId=self.image, InstanceType="t3.micro", MinCount=1, MaxCount=1,
                NetworkInterfaces=[{"DeviceIndex": 0, "SubnetId": subnet, "Groups": [group], "AssociatePublicIpAddress": False}],
                TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": name}]}])["Instances"][0]
            case["interface"] = instance["NetworkInterfaces"][0]["NetworkInterfaceId"]
            if ipv6:
                self.ec2.assign_ipv6_addresses(NetworkInterfaceId=case["interface"], Ipv6AddressCount=1)
            if public:
                address = self.ec2.allocate_address(Domain="vpc")
                self.ec2.associate_address(AllocationId=address["AllocationId"], NetworkInterfaceId=case["interface"])
        self.cases.append(case)


def custom():
    """A custom VPC in us-east-1: subnets that are public, guarded by a network ACL, and without a route."""
    s = Scene("us-east-1")
    ec2 = s.ec2
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16", AmazonProvidedIpv6CidrBlock=True)["Vpc"]
    six = vpc["Ipv6CidrBlockAssociationSet"][0]["Ipv6CidrBlock"]
    vpc = vpc["VpcId"]
    public = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.1.0/24", Ipv6CidrBlock=six.replace("/56", "/64"))["Subnet"]["SubnetId"]
    guarded = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.2.0/24")["Subnet"]["SubnetId"]
    unrouted = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.3.0/24")["Subnet"]["SubnetId"]
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    table = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
    ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    ec2.create_route(RouteTableId=table, DestinationIpv6CidrBlock="::/0", GatewayId=gateway)
    for subnet in (public, guarded):
        ec2.associate_route_table(RouteTableId=table, SubnetId=subnet)
    # AWS adds these to the default network ACL of a VPC with IPv6; moto does not.
    standard = ec2.describe_network_acls(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["NetworkAcls"][0]["NetworkAclId"]
    for egress in (False, True):
        ec2.create_network_acl_entry(NetworkAclId=standard, RuleNumber=101, Egress=egress, RuleAction="allow", Protocol="-1",
                                     Ipv6CidrBlock="::/0")
    acl = ec2.create_network_acl(VpcId=vpc)["NetworkAcl"]["NetworkAclId"]
    for number, egress, action, protocol, ports in (
            (90, False, "deny", "6", {"From": PORT, "To": PORT}), (100, False, "allow", "-1", None), (100, True, "allow", "-1", None)):
        more = {"PortRange": ports} if ports else {}
        ec2.create_network_acl_entry(NetworkAclId=acl, RuleNumber=number, Egress=egress, RuleAction=action, Protocol=protocol,
                                     CidrBlock="0.0.0.0/0", **more)
    for a in ec2.describe_network_acls(Filters=[{"Name": "association.subnet-id", "Values": [guarded]}])["NetworkAcls"]:
        for association in a["Associations"]:
            if association["SubnetId"] == guarded:
                ec2.replace_network_acl_association(AssociationId=association["NetworkAclAssociationId"], NetworkAclId=acl)
    lists = {}
    for name, entries in (("everyone", ["10.0.0.0/8", "0.0.0.0/0"]), ("partner", ["5.5.5.0/24"])):
        lists[name] = ec2.create_managed_prefix_list(PrefixListName=name, MaxEntries=5, AddressFamily="IPv4",
                                                     Entries=[{"Cidr": c} for c in entries])["PrefixList"]["PrefixListId"]

    def listed(name):
        return [permission("tcp", PORT, PORT, PrefixListIds=[{"PrefixListId": lists[name]}])]

    s.case("tcp", vpc, public, [permission("tcp", PORT, PORT)], opens="v4.tcp")
    s.case("udp", vpc, public, [permission("udp", PORT, PORT)], opens="v4.udp")
    s.case("all-tcp", vpc, public, [permission("tcp", 0, 65535)], opens="v4.tcp")
    s.case("everything", vpc, public, [permission("-1")], opens="v4.tcp v4.udp")
    s.case("ipv6", vpc, public, [permission("tcp", PORT, PORT, Ipv6Ranges=[{"CidrIpv6": "::/0"}])], ipv6=True, opens="v6.tcp")
    s.case("halves", vpc, public, [permission("tcp", PORT, PORT, IpRanges=[{"CidrIp": "0.0.0.0/1"}, {"CidrIp": "128.0.0.0/1"}])], opens="v4.tcp")
    s.case("list", vpc, public, listed("everyone"), opens="v4.tcp")
    s.case("partner-list", vpc, public, listed("partner"), opens="v4.tcp")
    s.case("next-port", vpc, public, [permission("tcp", 11210, 11210)])
    s.case("sctp", vpc, public, [permission("132", -1, -1)])
    s.case("private-source", vpc, public, [permission("tcp", PORT, PORT, IpRanges=[{"CidrIp": "10.0.0.0/8"}])])
    s.case("unattached", vpc, "", [permission("tcp", PORT, PORT)], latent=True)
    s.case("no-address", vpc, public, [permission("tcp", PORT, PORT)], public=False, latent=True)
    s.case("guarded", vpc, guarded, [permission("tcp", PORT, PORT)])
    s.case("unrouted", vpc, unrouted, [permission("tcp", PORT, PORT)])
    return s.cases


def default():
    """The default VPC of eu-west-1, made public by its main route table."""
    s = Scene("eu-west-1")
    vpc = s.ec2.describe_vpcs(Filters=[{"Name": "isDefault", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
    subnet = s.ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["Subnets"][0]["SubnetId"]
    gateway = s.ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    s.ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    main = s.ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["RouteTables"][0]["RouteTableId"]
    s.ec2.create_route(RouteTableId=main, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    s.case("dublin", vpc, subnet, [permission("udp", 11000, 12000)], opens="v4.udp")
    return s.cases


json.dump(custom() + default(), sys.stdout, indent=1)
