import base64
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID
from xml.etree import ElementTree

import pytest
from key_ring_support import DESERIALIZER, START, key_xml, revocation_xml, stored

from kestrun_py.data_protection import StoredElement
from kestrun_py.data_protection.encryptors import CbcHmacEncryptor, GcmEncryptor
from kestrun_py.data_protection.key_elements import KeyElements, read_elements
from kestrun_py.data_protection.key_xml import new_key
from kestrun_py.data_protection.keys import Key
from kestrun_py.errors import KeyRingError

ID = UUID("00112233-4455-6677-8899-aabbccddeeff")
OTHER = UUID("10112233-4455-6677-8899-aabbccddeeff")
DP = "{http://schemas.asp.net/2015/03/dataProtection}"


def read(*texts: str) -> KeyElements:
    return read_elements(stored(*texts))


def read_one(xml: str) -> Key:
    (key,) = read(xml).keys
    return key


def test_reads_a_key_of_aspnet() -> None:
    key = read_one(key_xml(ID))
    assert key.id == ID
    assert key.creation_date == key.activation_date == START
    assert key.expiration_date == START + timedelta(days=90)
    assert key.encryptor == CbcHmacEncryptor(bytes(range(64)), 32, "sha256")
    assert not key.is_revoked


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
def test_dates(text: str, expected: datetime) -> None:
    xml = key_xml(ID).replace("<creationDate>2030-01-01T00:00:00Z", f"<creationDate>{text}")
    assert read_one(xml).creation_date == expected


def test_reads_gcm() -> None:
    xml = key_xml(ID, encryption="AES_192_GCM", validation="<!-- not used -->")
    assert read_one(xml).encryptor == GcmEncryptor(bytes(range(64)), 24)


def test_reads_a_master_key_that_is_folded() -> None:
    text = base64.b64encode(bytes(range(64))).decode()
    xml = key_xml(ID).replace(text, f"\n  {text[:40]}\n  {text[40:]}\n")
    assert read_one(xml).encryptor.master_key == bytes(range(64))


def test_writes_the_shape_that_aspnet_reads() -> None:
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
    assert read_one(xml) == key


def test_new_keys_are_random() -> None:
    (first, _), (second, _) = (new_key(START, START, START) for _ in range(2))
    assert first.id != second.id
    assert first.encryptor.master_key != second.encryptor.master_key


@pytest.mark.parametrize(
    ("good", "bad", "reason"),
    [
        (f'id="{ID}"', "", "no attribute id"),
        (str(ID), "mine", "the id 'mine', which is no GUID"),
        ("<creationDate>2030-01-01T00:00:00Z</creationDate>", "", "no <creationDate>"),
        (
            "<creationDate>2030-01-01T00:00:00Z",
            "<creationDate>yesterday",
            "a creationDate, 'yesterday', that is not a date",
        ),
        ("<creationDate>2030-01-01T00:00:00Z", "<creationDate>0001-01-01T00:00:00+01:00", "that is not a date"),
        ("AES_256_CBC", "ROT_13", "'ROT_13' is not supported"),
        ("HMACSHA256", "HMACMD5", "'HMACMD5' is not supported"),
        ('<validation algorithm="HMACSHA256" />', "", "None is not supported"),
        ('<encryption algorithm="AES_256_CBC" />', "", "no <encryption>"),
        (DESERIALIZER, "My.CngDeserializer, My", "type My.CngDeserializer, which is not supported"),
        ("masterKey", "otherKey", "no <masterKey>"),
        ("<value>", "<value>?", "a master key that is not base64"),
        (base64.b64encode(bytes(range(64))).decode(), "AAECAw==", "of 4 bytes, which is too short"),
        (base64.b64encode(bytes(range(64))).decode(), "", "of 0 bytes, which is too short"),
    ],
)
def test_a_key_that_cannot_be_read_does_not_hinder_the_others(good: str, bad: str, reason: str) -> None:
    elements = read(key_xml(ID).replace(good, bad), key_xml(OTHER))
    assert [key.id for key in elements.keys] == [OTHER]
    (unusable,) = elements.unusable
    assert reason in unusable.fault
    assert "element 1" in unusable.fault


def with_secret(decryptor: str, content: str, **key: Any) -> str:
    """A key whose master key was handed to one of ASP.NET's encryptors."""
    xml = key_xml(ID, **key)
    start, end = xml.index("<masterKey"), xml.index("</masterKey>") + len("</masterKey>")
    secret = (
        f'<enc:encryptedSecret decryptorType="Microsoft.AspNetCore.DataProtection.XmlEncryption.{decryptor}, '
        'Microsoft.AspNetCore.DataProtection, Version=8.0.0.0" '
        f'xmlns:enc="http://schemas.asp.net/2015/03/dataProtection">{content}</enc:encryptedSecret>'
    )
    return xml[:start] + secret.replace("KEY", xml[start:end]) + xml[end:]


@pytest.mark.parametrize("decryptor", ["EncryptedXmlDecryptor", "DpapiXmlDecryptor", "DpapiNGXmlDecryptor"])
def test_an_encrypted_key_is_unusable_and_its_decryptor_is_named(decryptor: str) -> None:
    elements = read(with_secret(decryptor, "<value>x</value>"))
    assert elements.keys == ()
    (key,) = elements.unusable
    assert re.search(rf"{ID}.* in element 1 is encrypted.*unsupported decryptor \({decryptor}\)", key.fault)
    assert (key.id, key.creation_date, key.expiration_date) == (ID, START, START + timedelta(days=90))


def test_a_key_of_the_null_encryptor_is_plain() -> None:
    wrapped = "<unencryptedKey><!-- This key is not encrypted. -->KEY</unencryptedKey>"
    assert read_one(with_secret("NullXmlDecryptor", wrapped)) == read_one(key_xml(ID))
    assert "holds no secret" in read(with_secret("NullXmlDecryptor", "<unencryptedKey/>")).unusable[0].fault


def test_which_unusable_keys_may_be_needed() -> None:
    def is_needed(*texts: str) -> bool:
        return read(*texts).unusable[0].may_be_needed(START)

    assert is_needed(with_secret("DpapiXmlDecryptor", ""))
    assert is_needed(key_xml(ID).replace("expirationDate", "end"))
    assert is_needed("")
    assert not is_needed(with_secret("DpapiXmlDecryptor", "", created=START - timedelta(days=90)))
    assert not is_needed(with_secret("DpapiXmlDecryptor", ""), revocation_xml(ID, START))
    assert not is_needed(with_secret("DpapiXmlDecryptor", ""), revocation_xml("*", START + timedelta(seconds=1)))


def test_a_key_that_is_there_twice_is_one_key() -> None:
    assert read_one(key_xml(ID)) == read(key_xml(ID), key_xml(ID)).keys[0]
    assert len(read(key_xml(ID), key_xml(ID)).keys) == 1


def test_two_different_keys_with_one_id_are_both_unusable() -> None:
    elements = read(*(key_xml(ID, master_key=bytes([number] * 64)) for number in range(3)), key_xml(OTHER))
    assert [key.id for key in elements.keys] == [OTHER]
    (key,) = elements.unusable
    assert key.id == ID
    assert "element 1 and, different, in element 2" in key.fault


def test_an_unknown_element_is_left_out() -> None:
    elements = read("<note/>", key_xml(ID))
    assert len(elements.keys) == 1
    assert "element 1 (<note>)" in elements.remarks[0]


def test_any_number_of_foreign_elements_is_one_remark() -> None:
    (remark,) = read(*["<note/>"] * 10_000).remarks
    assert remark.startswith("10,000 elements")
    assert len(remark) < 200


def test_revocation_of_one_key() -> None:
    elements = [key_xml(ID), key_xml(OTHER), revocation_xml(ID, START)]
    keys = {key.id: key for key in read(*elements).keys}
    assert keys[ID].is_revoked
    assert not keys[OTHER].is_revoked


def test_revocation_of_an_unknown_key_is_a_remark() -> None:
    assert str(ID) in read(revocation_xml(ID, START)).remarks[0]


def test_revocation_of_every_key_made_before_a_date() -> None:
    before = START - timedelta(microseconds=1)
    elements = [key_xml(ID, created=before), key_xml(OTHER), revocation_xml("*", START)]
    before_start = read(*elements, revocation_xml("*", START - timedelta(days=1)))
    assert {key.id: key.is_revoked for key in before_start.keys} == {ID: True, OTHER: False}
    assert before_start.revoked_before == START


@pytest.mark.parametrize(
    "xml",
    [
        '<revocation version="1"><revocationDate>2030-01-01T00:00:00Z</revocationDate></revocation>',
        '<revocation version="1"><key id="*" /></revocation>',
        '<revocation version="1"><revocationDate>soon</revocationDate><key id="*" /></revocation>',
        '<revocation><revocationDate>2030-01-01T00:00:00Z</revocationDate><key id="all" /></revocation>',
    ],
)
def test_a_revocation_that_cannot_be_read_fails_the_ring(xml: str) -> None:
    with pytest.raises(KeyRingError, match="A revocation cannot be read: Element 2 "):
        read(key_xml(ID), xml)


@pytest.mark.parametrize("text", ["<revocation", "<revocation></key>", "<!DOCTYPE revocation><revocation/>"])
def test_what_may_be_a_revocation_fails_the_ring(text: str) -> None:
    with pytest.raises(KeyRingError, match="A revocation cannot be read: Element 2 "):
        read(key_xml(ID), text)
    with pytest.raises(KeyRingError, match=r"A revocation cannot be read: The file /r/revocation-1\.xml is empty"):
        read_elements([*stored(key_xml(ID)), StoredElement("the file /r/revocation-1.xml", "")])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("key", "is not XML"),
        ("<key", "is not XML"),
        ("<key></kee>", "is not XML"),
        ("<key/>\0", "is not XML"),
        ("<key>&nope;</key>", "is not XML"),
        ("<key>" + "x" * (1 << 20) + "</key>", "is longer than 1,048,576 characters"),
        ('<!DOCTYPE key [<!ENTITY a "b">]><key/>', "has a document type"),
        ('<!DOCTYPE key SYSTEM "file:///etc/passwd"><key/>', "has a document type"),
        ("<?xml version='1.0' encoding='utf-16'?><!DOCTYPE key><key/>", "has a document type"),
    ],
)
def test_what_is_not_the_xml_of_a_key_does_not_hinder_the_others(text: str, reason: str) -> None:
    elements = read(text, key_xml(ID))
    assert [key.id for key in elements.keys] == [ID]
    assert elements.unusable[0].fault.startswith(f"Element 1 {reason}")
