import base64
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID
from xml.etree import ElementTree

import pytest
from key_ring_support import DESERIALIZER, START, Log, key_xml, revocation_xml

from kestrun_py.data_protection.encryptors import CbcHmacEncryptor, GcmEncryptor
from kestrun_py.data_protection.key_xml import new_key, read_elements
from kestrun_py.data_protection.keys import Key
from kestrun_py.errors import KeyRingError

ID = UUID("00112233-4455-6677-8899-aabbccddeeff")
OTHER = UUID("10112233-4455-6677-8899-aabbccddeeff")
DP = "{http://schemas.asp.net/2015/03/dataProtection}"


def read_one(xml: str, log: Log) -> Key:
    (key,) = read_elements([xml], log).keys
    return key


def test_reads_a_key_of_aspnet(log: Log) -> None:
    key = read_one(key_xml(ID), log)
    assert key.id == ID
    assert key.creation_date == key.activation_date == START
    assert key.expiration_date == START + timedelta(days=90)
    assert key.encryptor == CbcHmacEncryptor(bytes(range(64)), 32, "sha256")
    assert not key.is_revoked
    assert log.lines == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2030-01-02T03:04:05Z", datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2030-01-02T03:04:05.1234567Z", datetime(2030, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)),
        ("2030-01-02T03:04:05.1Z", datetime(2030, 1, 2, 3, 4, 5, 100000, tzinfo=UTC)),
        ("2030-01-02T03:04:05+02:00", datetime(2030, 1, 2, 1, 4, 5, tzinfo=UTC)),
        ("\n 2030-01-02T03:04:05 ", datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)),
    ],
)
def test_dates(text: str, expected: datetime, log: Log) -> None:
    xml = key_xml(ID).replace("<creationDate>2030-01-01T00:00:00Z", f"<creationDate>{text}")
    assert read_one(xml, log).creation_date == expected


def test_reads_gcm(log: Log) -> None:
    xml = key_xml(ID, encryption="AES_192_GCM", validation="<!-- not used -->")
    assert read_one(xml, log).encryptor == GcmEncryptor(bytes(range(64)), 24)


def test_reads_a_master_key_that_is_folded(log: Log) -> None:
    text = base64.b64encode(bytes(range(64))).decode()
    xml = key_xml(ID).replace(text, f"\n  {text[:40]}\n  {text[40:]}\n")
    assert read_one(xml, log).encryptor.master_key == bytes(range(64))


def test_writes_the_shape_that_aspnet_reads(log: Log) -> None:
    created = datetime(2030, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    key, xml = new_key(created, created + timedelta(days=1), created + timedelta(days=90))
    root = ElementTree.fromstring(xml)
    assert (root.tag, root.attrib) == ("key", {"id": str(key.id), "version": "1"})
    assert [child.tag for child in root] == ["creationDate", "activationDate", "expirationDate", "descriptor"]
    assert root.findtext("creationDate") == "2030-01-01T00:00:00.0000000Z"
    descriptor = root.find("descriptor")
    assert descriptor is not None
    type_name, assembly, *rest = descriptor.attrib["deserializerType"].split(", ")
    assert type_name == DESERIALIZER.split(", ")[0]
    assert assembly == "Microsoft.AspNetCore.DataProtection"
    assert rest[1:] == ["Culture=neutral", "PublicKeyToken=adb9793829ddae60"]
    (content,) = descriptor
    assert content.tag == "descriptor"
    assert [(child.tag, child.attrib) for child in content] == [
        ("encryption", {"algorithm": "AES_256_CBC"}),
        ("validation", {"algorithm": "HMACSHA256"}),
        ("masterKey", {f"{DP}requiresEncryption": "true"}),
    ]
    assert [child.tag for child in content[2]] == ["value"]
    assert len(base64.b64decode(content[2].findtext("value", ""))) == 64
    assert read_one(xml, log) == key


def test_new_keys_are_random() -> None:
    (first, _), (second, _) = (new_key(START, START, START) for _ in range(2))
    assert first.id != second.id
    assert first.encryptor.master_key != second.encryptor.master_key


@pytest.mark.parametrize(
    ("good", "bad", "reason"),
    [
        (f'id="{ID}"', "", "no attribute id"),
        (str(ID), "mine", "'mine' is not an id"),
        ("<creationDate>2030-01-01T00:00:00Z</creationDate>", "", "no <creationDate>"),
        (
            "<creationDate>2030-01-01T00:00:00Z",
            "<creationDate>yesterday",
            "creationDate 'yesterday' is not a date",
        ),
        ("<creationDate>2030-01-01T00:00:00Z", "<creationDate>0001-01-01T00:00:00+01:00", "is not a date"),
        ("AES_256_CBC", "ROT_13", "'ROT_13' is not supported"),
        ("HMACSHA256", "HMACMD5", "'HMACMD5' is not supported"),
        ('<validation algorithm="HMACSHA256" />', "", "None is not supported"),
        ('<encryption algorithm="AES_256_CBC" />', "", "no <encryption>"),
        (DESERIALIZER, "My.CngDeserializer, My", "My.CngDeserializer is not supported"),
        ("masterKey", "otherKey", "no <masterKey>"),
        ("<value>", "<value>?", "not base64"),
        (base64.b64encode(bytes(range(64))).decode(), "AAECAw==", "4 bytes, which is too short"),
        (base64.b64encode(bytes(range(64))).decode(), "", "0 bytes, which is too short"),
    ],
)
def test_a_key_that_cannot_be_read_is_logged_and_left_out(good: str, bad: str, reason: str, log: Log) -> None:
    xml = key_xml(ID).replace(good, bad)
    assert [key.id for key in read_elements([xml, key_xml(OTHER)], log).keys] == [OTHER]
    (line,) = log.texts("error")
    assert reason in line


@pytest.mark.parametrize(
    "decryptor",
    [
        "Microsoft.AspNetCore.DataProtection.XmlEncryption.EncryptedXmlDecryptor",
        "Microsoft.AspNetCore.DataProtection.XmlEncryption.DpapiXmlDecryptor",
        "Microsoft.AspNetCore.DataProtection.XmlEncryption.DpapiNGXmlDecryptor",
    ],
)
def test_an_encrypted_key_is_refused_with_the_name_of_its_decryptor(decryptor: str, log: Log) -> None:
    secret = (
        f'<enc:encryptedSecret decryptorType="{decryptor}, Microsoft.AspNetCore.DataProtection" '
        'xmlns:enc="http://schemas.asp.net/2015/03/dataProtection"><value>x</value></enc:encryptedSecret>'
    )
    xml = key_xml(ID)
    start, end = xml.index("<masterKey"), xml.index("</masterKey>") + len("</masterKey>")
    with pytest.raises(KeyRingError, match=rf"{ID}.*unsupported decryptor \({decryptor.rsplit('.', 1)[1]}\)"):
        read_elements([xml[:start] + secret + xml[end:]], log)


def test_two_keys_with_one_id(log: Log) -> None:
    with pytest.raises(KeyRingError, match=f"{ID}.* twice"):
        read_elements([key_xml(ID), key_xml(ID)], log)


def test_an_unknown_element_is_left_out(log: Log) -> None:
    assert len(read_elements(["<note/>", key_xml(ID)], log).keys) == 1
    assert "note" in log.texts("warning")[0]


def test_revocation_of_one_key(log: Log) -> None:
    elements = [key_xml(ID), key_xml(OTHER), revocation_xml(ID, START)]
    keys = {key.id: key for key in read_elements(elements, log).keys}
    assert keys[ID].is_revoked
    assert not keys[OTHER].is_revoked


def test_revocation_of_an_unknown_key_is_logged(log: Log) -> None:
    read_elements([revocation_xml(ID, START)], log)
    assert str(ID) in log.texts("warning")[0]


def test_revocation_of_every_key_made_before_a_date(log: Log) -> None:
    before = START - timedelta(microseconds=1)
    elements = [key_xml(ID, created=before), key_xml(OTHER), revocation_xml("*", START)]
    read = read_elements([*elements, revocation_xml("*", START - timedelta(days=1))], log)
    assert {key.id: key.is_revoked for key in read.keys} == {ID: True, OTHER: False}
    assert read.revoked_before == START


@pytest.mark.parametrize(
    "xml",
    [
        '<revocation version="1"><revocationDate>2030-01-01T00:00:00Z</revocationDate></revocation>',
        '<revocation version="1"><key id="*" /></revocation>',
        '<revocation version="1"><revocationDate>soon</revocationDate><key id="*" /></revocation>',
        '<revocation><revocationDate>2030-01-01T00:00:00Z</revocationDate><key id="all" /></revocation>',
    ],
)
def test_a_revocation_that_cannot_be_read_fails_the_ring(xml: str, log: Log) -> None:
    with pytest.raises(KeyRingError, match="revocation cannot be read"):
        read_elements([key_xml(ID), xml], log)


@pytest.mark.parametrize("text", ["", "key", "<key", "<key></kee>", "<key/>\0", "<key>&nope;</key>"])
def test_what_is_not_xml(text: str, log: Log) -> None:
    with pytest.raises(KeyRingError, match="not XML"):
        read_elements([text], log)


@pytest.mark.parametrize(
    "declaration",
    ['<!DOCTYPE key [<!ENTITY a "b">]>', '<!DOCTYPE key SYSTEM "file:///etc/passwd">', "<!DOCTYPE key>"],
)
def test_document_types_and_entities_are_refused(declaration: str, log: Log) -> None:
    with pytest.raises(KeyRingError, match="document type"):
        read_elements([f"<?xml version='1.0' encoding='utf-16'?>{declaration}<key/>"], log)
